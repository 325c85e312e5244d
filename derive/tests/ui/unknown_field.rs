use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc: Linear,
    started: std::time::Instant,
}

fn main() {}
