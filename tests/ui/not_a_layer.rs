use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc: Linear,
}

fn main() {
    let _ = sequential![Net { fc: Linear::new(2, 2) }, ReLU];
}
