use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    #[module(name = "a.b")]
    fc: Linear,
}

fn main() {}
