use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc: Linear,
    #[module(skip)]
    log: std::sync::Mutex<Vec<f32>>,
}

fn main() {}
