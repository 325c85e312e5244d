use std::collections::HashMap;

use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    heads: Option<HashMap<String, Linear>>,
}

fn main() {}
