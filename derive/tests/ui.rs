//! The messages of `#[derive(Module)]` for code that it does not accept.

/// `TRYBUILD=overwrite` writes the expected messages again.
#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
