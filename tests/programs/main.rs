//! Random programs: operations drawn with a seed, each compared with a plain reference (`naive.rs`) as soon as it ran:
//! its shape, its elements, and whether it is refused. Also gradients against finite differences of the reference, and
//! equal bits on any number of threads.
//!
//! `NDNN_PROGRAMS=20000` runs that many programs instead of 300; `NDNN_PROGRAM_SEED=7` runs the one program with that
//! seed, which a failure message names.

#[path = "../common/mod.rs"]
mod common;
mod gradients;
mod naive;
mod program;
mod rows;
mod windows;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use naive::Array;
use ndnn::{AnyTensor, DType};
use program::{Kind, Mode, Program, Step};

/// Runs `check` on as many seeds as requested, or on the requested seed.
fn seeds(programs: u64, check: impl Fn(u64) -> Result<(), String>) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number("NDNN_PROGRAM_SEED"), number("NDNN_PROGRAMS")) {
        (Some(seed), _) => seed..seed + 1,
        // A share of the 300 programs of an ordinary run.
        (None, all) => 0..(programs * all.unwrap_or(300)).div_ceil(300),
    };
    let failures: Vec<String> = seeds.filter_map(|seed| Some(format!("seed {seed}: {}", check(seed).err()?))).collect();
    assert!(
        failures.is_empty(),
        "{} programs failed; NDNN_PROGRAM_SEED=… runs one again. The first ones:\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n")
    );
}

#[test]
fn values_are_those_of_plain_loops() {
    seeds(222, |seed| grow(Mode::Values, seed).map(|_| ()));
}

#[test]
fn gradients_are_those_of_finite_differences() {
    seeds(70, |seed| {
        let program = grow(Mode::Gradients(seed.is_multiple_of(2)), seed)?;
        gradients::check(&program).map_err(|what| format!("{what}\n{program}"))
    });
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    seeds(8, |seed| {
        let mut program = grow(Mode::Large, seed)?;
        let [one, three] = [1, 3].map(|n| ndnn::with_num_threads(n, || outputs(&program.steps, &[])));
        for (i, (a, b)) in one.iter().zip(&three).enumerate() {
            let bits =
                |t: &Option<AnyTensor>| t.as_ref().map(|t| elements(t).iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            if bits(a) != bits(b) {
                program.steps.truncate(i + 1);
                return Err(format!("v{i} has other bits on 3 threads than on 1\n{program}"));
            }
        }
        Ok(())
    });
}

#[test]
fn every_operation_works_while_a_thread_ends() {
    let programs = || {
        seeds(20, |seed| {
            grow(Mode::Values, seed + 1000)?;
            gradients::check(&grow(Mode::Gradients(true), seed + 1000)?)
        });
    };
    let (sender, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        common::until_the_end(programs, move |()| sender.send(catch_unwind(programs).is_ok()).expect("waited for"));
    });
    assert!(thread.join().is_ok() && ended.recv() == Ok(true));
}

/// Draws a program and runs it step by step.
fn grow(mode: Mode, seed: u64) -> Result<Program, String> {
    let mut program = Program::new(mode, seed);
    let fits = |(name, kind, _): &&(&str, Kind, _)| match mode {
        Mode::Values => true,
        Mode::Gradients(smooth) => *kind == Kind::Smooth || (*kind == Kind::Kinked && !smooth),
        // The size of its result is quadratic in that of an axis.
        Mode::Large => *name != "diag_embed",
    };
    let rows: Vec<_> = rows::ROWS.iter().filter(fits).collect();
    let length = program.between(10, if mode == Mode::Values { 30 } else { 14 });
    for _ in 0..length {
        let (_, _, row) = program.pick(&rows);
        let step = row(&mut program);
        let value = run(&step, &program);
        program.steps.push(step);
        match value {
            Ok(value) => program.values.push(value),
            Err(what) => return Err(format!("{what}\n{program}")),
        }
    }
    Ok(program)
}

/// The result of a step, if later steps may use it; an error if ndnn and the reference differ.
fn run(step: &Step, program: &Program) -> Result<Option<(AnyTensor, Array)>, String> {
    let inputs: Vec<&(AnyTensor, Array)> =
        step.inputs.iter().map(|&i| program.values[i].as_ref().expect("a value")).collect();
    let (tensors, arrays): (Vec<&AnyTensor>, Vec<&Array>) = inputs.iter().map(|(t, a)| (t, a)).unzip();
    let ours = catch_unwind(AssertUnwindSafe(|| (step.ours)(&tensors)))
        .map_err(|panic| format!("the last step panicked: {}", common::text(&*panic)))?;
    if program.mode == Mode::Large {
        let fits = |t: &AnyTensor| naive::count(t.shape()) < 1 << 19 && elements(t).iter().all(|x| x.abs() < 1e3);
        // The elements of the reference are not compared.
        return Ok(ours.ok().filter(fits).map(|t| (t, Array { shape: vec![], data: vec![] })));
    }
    let (tensor, expected) = match (ours, (step.naive)(&arrays)) {
        (Err(_), None) => return Ok(None),
        (Err(error), Some(_)) => return Err(format!("the last step is refused: {error}")),
        (Ok(tensor), None) => return Err(format!("the last step must be refused; it gives {:?}", tensor.shape())),
        (Ok(tensor), Some(expected)) => (tensor, expected),
    };
    let got = elements(&tensor);
    if tensor.shape() != expected.shape {
        return Err(format!("the last step is {:?}, expected {:?}", tensor.shape(), expected.shape));
    }
    let tolerance = tolerance(step, &tensor, &arrays);
    if let Some(k) = (0..got.len()).find(|&k| !tolerance(got[k], expected.data[k])) {
        return Err(format!("element {k} of the last step is {:?}, expected {:?}", got[k], expected.data[k]));
    }
    let modest =
        got.iter().all(|x| x.abs() <= 16.) && got.len() <= if program.mode == Mode::Values { 1500 } else { 150 };
    // From here on both continue with the same numbers, so that roundings do not accumulate.
    let shape = expected.shape;
    Ok(modest.then_some((tensor, Array { shape, data: got })))
}

/// Whether two elements are equal except for roundings. A sum inside an operation is at most the sum of all input
/// elements times the largest one.
fn tolerance(step: &Step, result: &AnyTensor, inputs: &[&Array]) -> impl Fn(f64, f64) -> bool + use<> {
    let all = || inputs.iter().flat_map(|a| &a.data).map(|x| x.abs());
    let scale = all().fold(1., f64::max) * all().sum::<f64>().max(1.);
    let (n, exact) = (all().count() as f64, step.exact);
    let eps = match result.dtype() {
        DType::F64 if !inputs.is_empty() => 1e-14,
        DType::F32 => 5e-7,
        _ => 0.,
    };
    move |got: f64, expected: f64| {
        let near = (got - expected).abs() <= eps * (scale + expected.abs() * (4. + n));
        got == expected || (got.is_nan() && expected.is_nan()) || (near && !exact)
    }
}

fn elements(tensor: &AnyTensor) -> Vec<f64> {
    tensor.to::<f64>().to_vec()
}

/// The results of ndnn for a program, with some leaves replaced by others.
fn outputs(steps: &[Step], leaves: &[(usize, AnyTensor)]) -> Vec<Option<AnyTensor>> {
    let mut values: Vec<Option<AnyTensor>> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let replaced = leaves.iter().find(|(at, _)| *at == i).map(|(_, leaf)| leaf.clone());
        let inputs: Option<Vec<&AnyTensor>> = step.inputs.iter().map(|&i| values[i].as_ref()).collect();
        let value = replaced.or_else(|| (step.ours)(&inputs?).ok());
        values.push(value);
    }
    values
}
