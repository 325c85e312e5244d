use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc: Linear,
    #[module(ignore)]
    started: std::time::Instant,
}

fn main() {}
