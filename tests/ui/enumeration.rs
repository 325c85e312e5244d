use ndnn::prelude::*;

#[derive(Module)]
enum Net {
    Small(Linear),
    Large(Sequential),
}

fn main() {}
