//! [`summary`]: a table of a model's layers with output shapes, parameters and multiply-adds.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use super::{Forward, Module, call::Place, hooks::Watch, walk};
use crate::{
    Result,
    kernels::profile,
    sync::{Scoped, during},
    tensor::{Real, Tensor, Tensors, no_grad},
};

/// One finished call of one module.
struct Seen {
    shape: Option<Vec<usize>>,
    multiply_adds: u64,
}

#[derive(Default)]
struct Recording {
    /// The calls of each module. Modules without fields have no identity of their own: they share the calls of their type,
    /// as the places of a shared module share its calls.
    calls: HashMap<Place, VecDeque<Seen>>,
    /// For each running call, the multiply-adds of the calls inside it.
    inside: Vec<u64>,
}

thread_local! {
    static RECORDING: Scoped<Recording> = const { Scoped::new() };
}

/// Whether a summary is running on this thread.
pub(super) fn is_running() -> bool {
    RECORDING.with(Scoped::is_some)
}

/// A call that a summary on this thread sees.
pub(super) struct Observed {
    before: u64,
}

impl Observed {
    /// Returns `None` if no summary is running.
    pub fn begin() -> Option<Self> {
        let before = profile::multiply_adds();
        RECORDING.with(|r| r.with(|r| r.as_mut().map(|r| r.inside.push(0))))?;
        Some(Observed { before })
    }

    /// Records the output, and the multiply-adds outside the calls inside it.
    pub fn end(self, place: Place, shape: Option<Vec<usize>>) {
        let all = profile::multiply_adds() - self.before;
        RECORDING.with(|r| {
            r.with(|r| {
                if let Some(r) = r {
                    let multiply_adds = all - r.inside.last().copied().unwrap_or(0);
                    r.calls.entry(place).or_default().push_back(Seen { shape, multiply_adds });
                }
            })
        });
    }
}

/// Also if the call failed.
impl Drop for Observed {
    fn drop(&mut self) {
        let all = profile::multiply_adds().saturating_sub(self.before);
        RECORDING.with(|r| {
            r.with(|r| {
                if let Some(r) = r {
                    r.inside.pop();
                    if let Some(outer) = r.inside.last_mut() {
                        *outer += all;
                    }
                }
            })
        });
    }
}

/// One row of a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The path from the model; empty for the model itself.
    pub path: String,
    /// The layer's type.
    pub type_name: String,
    /// How often it was called.
    pub calls: usize,
    /// The shape of its output, at the first call; `None` if its forward was not seen because it did not run or is not marked
    /// [`#[forward]`](crate::forward).
    pub output: Option<Vec<usize>>,
    /// The number of learnable values of its own, without those of its children.
    pub parameters: usize,
    /// The multiply-adds of its own in all calls, without those of its children.
    pub multiply_adds: u64,
}

/// The table that [`summary`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The model first, then every module inside, parents before children.
    pub rows: Vec<Row>,
    /// All learnable values; a tied parameter counts once.
    pub parameters: usize,
    /// Those of them that are not frozen.
    pub trainable: usize,
    /// All multiply-adds of one forward.
    pub multiply_adds: u64,
}

/// Runs the model once on zeros of the given shape and returns a table of its layers: path, type, output shape,
/// parameters, multiply-adds, and totals. A layer that is called several times shows how often, as in `[64, 10] × 3`.
///
/// ```
/// use ndnn::{nn::summary, prelude::*};
/// let model = sequential![Linear::new(784, 256), ReLU, Linear::new(256, 10)];
/// let table = summary(&model, &[64, 784])?;
/// assert_eq!(table.parameters, 203_530);
/// println!("{table}");
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the model does not accept an input of that shape; if a parameter is still [lazy](super::Param::is_lazy) after it.
pub fn summary<T: Real>(model: &impl Forward<T>, input: &[usize]) -> Result<Summary> {
    summary_of(model, || model.forward(&Tensor::try_full("summary", input, T::ZERO)?))
}

/// As [`summary`], for a model with a different `forward`: `run` calls it once.
///
/// # Errors
/// Those of `run`; if a parameter is still [lazy](super::Param::is_lazy) after it.
pub fn summary_of<M: Module, R: Tensors>(model: &M, run: impl FnOnce() -> Result<R>) -> Result<Summary> {
    let _watch = Watch::new();
    let recorded = during(&RECORDING, Recording::default(), || profile::counting(|| no_grad(run)));
    let ((output, multiply_adds), Recording { mut calls, .. }) = recorded;
    let output = output?.tensors().first().map(|t| t.shape().to_vec());
    let params = walk::named_parameters(model);
    walk::no_lazy("summary", params.iter().map(|(name, p)| (name.as_str(), p.is_lazy())))?;
    let of_model = calls.remove(&model.place()).unwrap_or_default();

    let own = |module| walk::own_parameters(module).iter().map(|p| p.numel()).sum();
    let mut rows = vec![Row {
        path: String::new(),
        type_name: model.type_name(),
        calls: of_model.len(),
        output,
        parameters: own(model),
        multiply_adds: of_model.iter().map(|seen| seen.multiply_adds).sum(),
    }];
    let modules = walk::named_modules(model);
    let mut places: HashMap<Place, usize> = HashMap::new();
    modules.iter().for_each(|(_, module)| *places.entry(module.place()).or_default() += 1);
    for (path, module) in modules {
        // Each place takes one call, the last one those that are left.
        let left = places.get_mut(&module.place()).expect("counted above");
        *left -= 1;
        let of_module = calls.entry(module.place()).or_default();
        let here = if *left == 0 { of_module.len() } else { of_module.len().min(1) };
        let here: Vec<Seen> = of_module.drain(..here).collect();
        rows.push(Row {
            path,
            type_name: module.type_name(),
            calls: here.len(),
            output: here.first().and_then(|seen| seen.shape.clone()),
            parameters: own(module),
            multiply_adds: here.iter().map(|seen| seen.multiply_adds).sum(),
        });
    }
    let trainable = params.iter().filter(|(_, p)| p.requires_grad()).map(|(_, p)| p.numel()).sum();
    Ok(Summary { rows, parameters: walk::num_parameters(model), trainable, multiply_adds })
}

/// Formats 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("digits")).collect();
    groups.join(",")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["Layer", "Type", "Output shape", "Parameters", "Multiply-adds"].map(String::from);
        let zero_is_blank = |n: u64| if n == 0 { String::new() } else { grouped(n) };
        let cells = self.rows.iter().map(|row| {
            [
                row.path.clone(),
                row.type_name.clone(),
                match &row.output {
                    Some(shape) if row.calls > 1 => format!("{shape:?} × {}", row.calls),
                    Some(shape) => format!("{shape:?}"),
                    None => String::new(),
                },
                zero_is_blank(row.parameters as u64),
                zero_is_blank(row.multiply_adds),
            ]
        });
        let table: Vec<[String; 5]> = std::iter::once(head).chain(cells).collect();
        let width = |c: usize| table.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
        let w: [usize; 5] = std::array::from_fn(width);
        let rule = "-".repeat(w.iter().sum::<usize>() + 8);
        for (i, [path, kind, shape, params, adds]) in table.iter().enumerate() {
            let line =
                format!("{path:<0$}  {kind:<1$}  {shape:<2$}  {params:>3$}  {adds:>4$}", w[0], w[1], w[2], w[3], w[4]);
            writeln!(f, "{}", line.trim_end())?;
            if i == 0 {
                writeln!(f, "{rule}")?;
            }
        }
        writeln!(f, "{rule}")?;
        let frozen = self.parameters - self.trainable;
        writeln!(f, "Parameters: {} ({} frozen)", grouped(self.parameters as u64), grouped(frozen as u64))?;
        write!(f, "Multiply-adds: {}", grouped(self.multiply_adds))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::prelude::*;

    #[test]
    fn a_layer_that_did_not_run_may_have_no_values() {
        let model = sequential![Linear::new(3, 2), LazyLinear::new(2)];
        let error = summary_of(&model, || model.get(0).unwrap().forward(&Tensor::ones([5, 3]))).unwrap_err();
        assert!(error.to_string().starts_with("summary: `1.weight` has no values yet"), "{error}");
    }

    #[test]
    fn a_panic_ends_the_recording() {
        let model = sequential![Linear::new(3, 2), Tanh];
        let forward = || model.forward(&Tensor::ones([5, 3]));
        let panics = || {
            summary_of(&model, || -> Result<Tensor> {
                let _ = forward()?;
                panic!("half way")
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(!RECORDING.with(Scoped::is_some) && profile::multiply_adds() == 0);
        let _ = forward().unwrap();
        assert_eq!(profile::multiply_adds(), 0, "nothing is counted");
        // Nested; the inner one gives the same result as alone.
        let alone = summary(&model, &[5, 3]).unwrap();
        let twice = || {
            assert_eq!(summary(&model, &[5, 3])?, alone);
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            forward()
        };
        let outer = summary_of(&model, twice).unwrap();
        assert_eq!((&outer.rows, outer.multiply_adds), (&alone.rows, 3 * alone.multiply_adds));
    }
}
