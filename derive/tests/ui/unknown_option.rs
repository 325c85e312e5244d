use ndnn::prelude::*;

#[derive(Module)]
#[module(rename)]
struct Net {
    fc: Linear,
}

fn main() {}
