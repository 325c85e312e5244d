use ndnn::prelude::*;

#[derive(Module)]
enum Net {}

fn main() {}
