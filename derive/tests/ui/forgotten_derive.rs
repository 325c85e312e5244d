use ndnn::prelude::*;

struct Block {
    fc: Linear,
}

#[derive(Module)]
struct Net {
    blocks: Vec<Block>,
}

fn main() {}
