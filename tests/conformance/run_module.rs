//! Cases of modules: construction, state, forward, gradients and their gradients.

use ndnn::{
    AnyTensor, Real, Tensor,
    nn::{AnyParam, Module, ModuleExt, StateDict},
};
use serde_json::Value as Json;

use crate::{
    args::{Args, Mode},
    check::{Differences, differentiable, gradients},
    run::{Trouble, UNKNOWN_TARGET, arguments, compare_both, compare_outputs, expected_error, text, unused},
    targets::{
        dims::REFUSED,
        module::{Case, build},
    },
    values::CaseFile,
};

/// The tensors of a constructor are not leaves.
const CONSTRUCTOR: Mode = Mode { strided: false, tracked: false };

fn construct<T: Real>(case: &Json, args: &Args<T>) -> Result<ndnn::Result<Box<dyn Case<T>>>, Trouble> {
    build(text(case, "target")?, args).transpose().ok_or_else(|| UNKNOWN_TARGET.to_string())
}

pub fn module<T: Real>(file: &CaseFile, case: &Json, strided: bool) -> Result<Differences, Trouble> {
    let mut differences = Differences::default();
    let constructor = arguments::<T>(file, case, ["args", "kwargs"], CONSTRUCTOR)?;
    let mut built = construct(case, &constructor)?.map_err(|e| format!("construction: {e}"))?;
    unused(&mut differences, &constructor);

    let module = built.module();
    let state: StateDict = file.named_tensors(&case["state"])?.into_iter().collect();
    module.load_state_dict(&state).map_err(|e| format!("state: {e}"))?;
    if case["training"] == true {
        module.train();
    } else {
        module.eval();
    }
    let args = arguments::<T>(file, case, ["forward_args", "forward_kwargs"], Mode { strided, tracked: true })?;
    let outputs = built.forward(&args).map_err(|e| format!("error: {e}"))?;
    unused(&mut differences, &args);
    compare_outputs(&mut differences, file, case, &outputs)?;
    compare_state(&mut differences, file, case, &state, built.module())?;
    compare_gradients(&mut differences, file, case, &args, built.module(), &outputs)?;
    Ok(differences)
}

/// Checks the entries that forward changes, and that it leaves the others unchanged.
fn compare_state(
    differences: &mut Differences,
    file: &CaseFile,
    case: &Json,
    before: &StateDict,
    module: &dyn Module,
) -> Result<(), Trouble> {
    let changed = file.named_tensors(&case["state_after"])?;
    let now = module.state_dict();
    for (name, before) in before.iter() {
        let expected = changed.iter().find(|(key, _)| key == name).map_or(before, |(_, after)| after);
        match now.get(name) {
            Some(now) => differences.compare(&format!("state {name}"), now, expected),
            None => differences.add(format!("state {name}: gone after forward")),
        }
    }
    Ok(())
}

/// The leaf of a parameter, if it is of type `T`.
fn leaf<T: Real>(param: &AnyParam) -> Option<Tensor<T>> {
    (param.dtype() == T::DTYPE).then(|| match param {
        AnyParam::F32(p) => p.tensor().cast(),
        AnyParam::F64(p) => p.tensor().cast(),
    })
}

fn compare_gradients<T: Real>(
    differences: &mut Differences,
    file: &CaseFile,
    case: &Json,
    args: &Args<T>,
    module: &dyn Module,
    outputs: &[AnyTensor],
) -> Result<(), Trouble> {
    if case.get("input_grads").is_none() {
        return Ok(());
    }
    // An input and a parameter may have the same name: a prefix distinguishes their gradients.
    let named = |key: &str| -> Result<Vec<(String, AnyTensor)>, Trouble> {
        let prefix = if key.ends_with("input_grads") { "input" } else { "param" };
        Ok(file.named_tensors(&case[key])?.into_iter().map(|(name, t)| (format!("{prefix} {name}"), t)).collect())
    };
    let inputs = args.leaves().into_iter().map(|(path, leaf)| (format!("input {path}"), leaf));
    let params = module.named_parameters().into_iter();
    let params = params.filter_map(|(name, param)| Some((format!("param {name}"), leaf(&param)?)));
    let leaves: Vec<_> = inputs.chain(params).collect();
    let outputs = differentiable::<T>(outputs);

    let expected = [named("input_grads")?, named("param_grads")?].concat();
    let second = [named("second_input_grads")?, named("second_param_grads")?].concat();
    let first = compare_both(differences, &outputs, &leaves, &expected)?;
    if !second.is_empty() {
        // Only for what PyTorch differentiated: here, every floating input has a gradient.
        let first = first.into_iter().filter(|(name, _)| expected.iter().any(|(key, _)| key == name));
        let first: Vec<_> = first.filter_map(|(_, grad)| grad).filter(Tensor::requires_grad).collect();
        let grads = gradients(&first, &leaves).map_err(|e| format!("second gradients: {e}"))?;
        differences.compare_grads("second grad", &grads, &second);
    }
    Ok(())
}

pub fn module_error<T: Real>(file: &CaseFile, case: &Json, strided: bool) -> Result<Differences, Trouble> {
    let mut differences = Differences::default();
    let constructor = arguments::<T>(file, case, ["args", "kwargs"], CONSTRUCTOR)?;
    let built = construct(case, &constructor)?;
    if text(case, "error_on")? == "construction" {
        if built.is_ok() {
            differences.add(format!("construction gave no error; PyTorch says {}", case["torch_message"]));
        }
        return Ok(differences);
    }
    let mut built = match built {
        // What PyTorch refuses at a call, a setter may refuse before.
        Err(e) if e.to_string().ends_with(REFUSED) => return Ok(differences),
        built => built.map_err(|e| format!("construction: {e}"))?,
    };
    if case["training"] == true {
        built.module().train();
    } else {
        built.module().eval();
    }
    let args = arguments::<T>(file, case, ["forward_args", "forward_kwargs"], Mode { strided, tracked: true })?;
    if let Ok(outputs) = built.forward(&args) {
        expected_error(&mut differences, case, &outputs);
    }
    Ok(differences)
}
