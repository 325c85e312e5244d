//! Cases of optimizers and schedulers: trajectories.

use ndnn::{Real, Result, Tensor, nn::Param};
use serde_json::Value as Json;

use crate::{
    args::{Args, Mode},
    check::Differences,
    run::{Trouble, UNKNOWN_TARGET, arguments, text, unused},
    targets::{optim, sched},
    values::CaseFile,
};

const OPTIONS: Mode = Mode { strided: false, tracked: false };

fn options<T: Real>(file: &CaseFile, case: &Json) -> Result<Args<T>, Trouble> {
    arguments(file, case, ["no positional ones", "kwargs"], OPTIONS)
}

pub fn optim<T: Real>(file: &CaseFile, case: &Json) -> Result<Differences, Trouble> {
    let mut differences = Differences::default();
    let args = options::<T>(file, case)?;
    let tensors = |key: &str| -> Result<Vec<Tensor<T>>, Trouble> {
        Ok(file.tensors(&case[key])?.iter().map(|t| t.to::<T>()).collect())
    };
    let params: Vec<_> = tensors("params")?.into_iter().map(Param::new).collect();
    let targets = tensors("targets")?;
    let built = optim::build(text(case, "target")?, &params, &args).map_err(|e| format!("construction: {e}"))?;
    let mut optimizer = built.ok_or(UNKNOWN_TARGET)?;
    unused(&mut differences, &args);
    let trajectory = case["trajectory"].as_array().ok_or("the case has no `trajectory`")?;
    for (step, expected) in trajectory.iter().enumerate() {
        optimizer.step(&mut || objective(&params, &targets)).map_err(|e| format!("step {}: {e}", step + 1))?;
        let now: Vec<_> = params.iter().map(|p| p.detach().into()).collect();
        differences.compare_all(&format!("step {}, parameter", step + 1), &now, &file.tensors(expected)?);
        if !differences.0.is_empty() {
            break;
        }
    }
    Ok(differences)
}

/// `Σ log cosh(p − target)` with new gradients.
fn objective<T: Real>(params: &[Param<T>], targets: &[Tensor<T>]) -> Result<Tensor<T>> {
    let mut total = Tensor::scalar(T::ZERO);
    for (param, target) in params.iter().zip(targets) {
        param.zero_grad();
        let x = param.tensor().try_sub(target)?;
        total = total + ((x.exp() + (-x).exp()) * T::of(0.5)).log().sum();
    }
    total.backward()?;
    Ok(total)
}

pub fn sched(file: &CaseFile, case: &Json) -> Result<Differences, Trouble> {
    let mut differences = Differences::default();
    let args = options::<f64>(file, case)?;
    let base_lr = case["base_lr"].as_f64().ok_or("the case has no `base_lr`")?;
    let built = sched::build(text(case, "target")?, base_lr, &args).map_err(|e| format!("construction: {e}"))?;
    let mut schedule = built.ok_or(UNKNOWN_TARGET)?;
    unused(&mut differences, &args);
    let list = |key: &str| case[key].as_array().map_or(&[][..], Vec::as_slice);
    let (metrics, momenta) = (list("metrics"), list("momenta"));
    for (k, lr) in list("lrs").iter().enumerate() {
        if let Some(metric) = metrics.get(k) {
            schedule.step(metric.as_f64()).map_err(|e| format!("step {}: {e}", k + 1))?;
        }
        compare_number(&mut differences, &format!("rate {k}"), schedule.lr(), lr);
        if let Some(momentum) = momenta.get(k) {
            compare_number(&mut differences, &format!("momentum {k}"), schedule.momentum(), momentum);
        }
        if metrics.is_empty() {
            schedule.step(None).map_err(|e| format!("step {}: {e}", k + 1))?;
        }
    }
    Ok(differences)
}

fn compare_number(differences: &mut Differences, what: &str, got: f64, expected: &Json) {
    let expected = Tensor::scalar(expected.as_f64().unwrap_or(f64::NAN));
    differences.compare(what, &Tensor::scalar(got).into(), &expected.into());
}
