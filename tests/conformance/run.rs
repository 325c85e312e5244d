//! Both runs of one case; panics are caught.

use std::{
    any::Any,
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
};

use ndnn::{AnyTensor, Real, Tensor};
use serde_json::Value as Json;

use crate::{
    args::{Args, Mode},
    check::{Differences, Grads, backward, differentiable, gradients},
    common, run_module, run_optim, skips, targets,
    values::CaseFile,
};

/// The result of a case.
pub enum Outcome {
    Passed,
    Failed(Vec<String>),
    Skipped,
}

/// Why a case could not be judged: a message of the runner, of ndnn or of the case.
pub type Trouble = String;

thread_local! {
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does not print panics: they are reported as the failure of a case.
pub fn quiet_panics() {
    panic::set_hook(Box::new(|info| {
        let at = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
        PANICKED_AT.with(|slot| *slot.borrow_mut() = at);
    }));
}

/// Runs a case on its tensors as stored, then on strided copies.
pub fn run(file: &CaseFile, case: &Json) -> Outcome {
    if skips::reason(case).is_some() {
        return Outcome::Skipped;
    }
    for (strided, label) in [(false, ""), (true, "(strided) ")] {
        let attempt = panic::catch_unwind(AssertUnwindSafe(|| attempt(file, case, strided)));
        let differences = match attempt {
            Ok(Ok(differences)) => differences.0,
            Ok(Err(trouble)) => vec![trouble],
            Err(payload) => vec![panic_message(payload.as_ref())],
        };
        if !differences.is_empty() {
            return Outcome::Failed(differences.into_iter().map(|d| format!("{label}{d}")).collect());
        }
    }
    Outcome::Passed
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = common::text(payload);
    match PANICKED_AT.with(|slot| slot.borrow_mut().take()) {
        Some(at) => format!("panic at {at}: {text}"),
        None => format!("panic: {text}"),
    }
}

fn attempt(file: &CaseFile, case: &Json, strided: bool) -> Result<Differences, Trouble> {
    if case["dtype"] == "F64" { attempt_as::<f64>(file, case, strided) } else { attempt_as::<f32>(file, case, strided) }
}

fn attempt_as<T: Real>(file: &CaseFile, case: &Json, strided: bool) -> Result<Differences, Trouble> {
    match text(case, "kind")? {
        "tensor" | "functional" => call::<T>(file, case, strided),
        "tensor_error" | "functional_error" => call_error::<T>(file, case, strided),
        "module" => run_module::module::<T>(file, case, strided),
        "module_error" => run_module::module_error::<T>(file, case, strided),
        "optim" => run_optim::optim::<T>(file, case),
        "sched" => run_optim::sched(file, case),
        other => Err(format!("the runner does not know cases of kind {other:?}")),
    }
}

pub fn text<'a>(case: &'a Json, key: &str) -> Result<&'a str, Trouble> {
    case[key].as_str().ok_or_else(|| format!("the case has no `{key}`"))
}

/// The arguments of a case under the given keys.
pub fn arguments<T: Real>(
    file: &CaseFile,
    case: &Json,
    [args, kwargs]: [&str; 2],
    mode: Mode,
) -> Result<Args<T>, Trouble> {
    Ok(Args::new(file.values(&case[args])?, file.named_values(&case[kwargs])?, mode))
}

/// The trouble of a target that no file in `targets/` knows: a new one, or an optimizer or scheduler that is not built and was
/// asked for by name.
pub const UNKNOWN_TARGET: &str = "no file in targets/ knows this target";

fn dispatch<T: Real>(case: &Json, args: &Args<T>) -> Result<ndnn::Result<Vec<AnyTensor>>, Trouble> {
    let (kind, target) = (text(case, "kind")?, text(case, "target")?);
    let variant = case["variant"].as_str().unwrap_or("");
    let called = match kind.trim_end_matches("_error") {
        "tensor" => targets::call_tensor(target, variant, args),
        _ => targets::call_functional(target, variant, args),
    };
    called.transpose().ok_or_else(|| UNKNOWN_TARGET.to_string())
}

fn call<T: Real>(file: &CaseFile, case: &Json, strided: bool) -> Result<Differences, Trouble> {
    let args = arguments::<T>(file, case, ["args", "kwargs"], Mode { strided, tracked: true })?;
    let outputs = dispatch(case, &args)?.map_err(|e| format!("error: {e}"))?;
    let mut differences = Differences::default();
    unused(&mut differences, &args);
    compare_outputs(&mut differences, file, case, &outputs)?;
    if case.get("input_grads").is_some() {
        let inputs: Vec<_> = args.leaves().into_iter().collect();
        let expected = file.named_tensors(&case["input_grads"])?;
        compare_both(&mut differences, &differentiable::<T>(&outputs), &inputs, &expected)?;
    }
    for (path, expected) in file.named_tensors(&case["mutates"])? {
        match args.mutated(&path) {
            Some(now) => differences.compare(&format!("mutated {path}"), &now, &expected),
            None => differences.add(format!("mutated {path}: not reported")),
        }
    }
    Ok(differences)
}

/// Compares first gradients, computed by `backward` and by `grad` with a graph of their own (which uses formulas where
/// the former may use faster kernels). Returns the latter.
pub fn compare_both<T: Real>(
    differences: &mut Differences,
    outputs: &[Tensor<T>],
    leaves: &[(String, Tensor<T>)],
    expected: &[(String, AnyTensor)],
) -> Result<Grads<T>, Trouble> {
    let gathered = backward(outputs, leaves).map_err(|e| format!("backward: {e}"))?;
    let before = differences.0.len();
    differences.compare_grads("grad", &gathered, expected);
    let recorded = gradients(outputs, leaves).map_err(|e| format!("recorded gradients: {e}"))?;
    if differences.0.len() == before {
        differences.compare_grads("recorded grad", &recorded, expected);
    }
    Ok(recorded)
}

/// Every argument that is not None must have been read.
pub fn unused<T: Real>(differences: &mut Differences, args: &Args<T>) {
    for argument in args.unused() {
        differences.add(format!("the argument {argument} was not used"));
    }
}

/// Compares values or, if they are random, shapes.
pub fn compare_outputs(
    differences: &mut Differences,
    file: &CaseFile,
    case: &Json,
    outputs: &[AnyTensor],
) -> Result<(), Trouble> {
    if case["stochastic"] != true {
        differences.compare_all("output", outputs, &file.tensors(&case["outputs"])?);
        return Ok(());
    }
    let shapes = Json::from(outputs.iter().map(|o| Json::from(o.shape())).collect::<Vec<_>>());
    if shapes != case["shapes"] {
        differences.add(format!("outputs: shapes {shapes} and {}", case["shapes"]));
    }
    Ok(())
}

fn call_error<T: Real>(file: &CaseFile, case: &Json, strided: bool) -> Result<Differences, Trouble> {
    let args = arguments::<T>(file, case, ["args", "kwargs"], Mode { strided, tracked: true })?;
    let mut differences = Differences::default();
    if let Ok(outputs) = dispatch(case, &args)? {
        expected_error(&mut differences, case, &outputs);
    }
    Ok(differences)
}

/// Reports that a call succeeded that should have failed.
pub fn expected_error(differences: &mut Differences, case: &Json, outputs: &[AnyTensor]) {
    let shapes: Vec<_> = outputs.iter().map(AnyTensor::shape).collect();
    differences.add(format!("no error came but outputs {shapes:?}; PyTorch says {}", case["torch_message"]));
}
