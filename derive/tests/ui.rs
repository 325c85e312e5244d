//! What `#[derive(Module)]` says to what it cannot take.

/// `TRYBUILD=overwrite` writes the messages anew.
#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
