use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc: Linear,
}

fn main() {
    sequential![Net { fc: Linear::new(1, 1) }];
}
