// A tensor is a value: an operation does nothing but return its result.
#![deny(unused_must_use)]

use ndnn::prelude::*;

fn main() {
    let x = tensor![1.0, -1.0];
    x.relu();
    x.reshape([2, 1]).unwrap();
    Linear::new(1, 1).load_state_dict_partial(&Default::default()).unwrap();
}
