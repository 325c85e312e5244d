//! ndnn as `cargo add ndnn` builds it. Its own tests always have the optional features, which its examples need; this
//! package's dependency on it has none.

#![allow(clippy::duplicate_mod)] // each of these files has its own `common`

#[path = "../../tests/errors.rs"]
mod errors;
#[path = "../../tests/modules.rs"]
mod modules;
#[path = "../../tests/optim.rs"]
mod optim;

#[test]
fn a_packed_file_needs_the_feature_and_says_so() {
    let path = std::env::temp_dir().join(format!("ndnn-{}-labels-idx1-ubyte.gz", std::process::id()));
    std::fs::write(&path, [0x1f, 0x8b, 8, 0]).unwrap();
    let error = ndnn::data::idx::load(&path).unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    assert!(error.contains("gzip"), "{error}");
}
