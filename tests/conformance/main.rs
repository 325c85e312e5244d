//! The conformance runner: see FORMAT.md beside the cases.

mod args;
mod targets;
mod values;

fn main() {
    let _ = (targets::built("tensor"), targets::call_tensor::<f32>, targets::call_functional::<f64>);
    let _ = (values::CaseFile::read, args::Args::<f32>::new);
}
