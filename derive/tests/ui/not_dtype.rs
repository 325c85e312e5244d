use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc: Linear,
}

fn main() {
    sequential![f64; Net { fc: Linear::new(1, 1) }];
}
