//! The calls that a summary records.

use super::super::call::Place;
use crate::{
    kernels::profile,
    sync::{Scoped, during},
    tensor::{AnyTensor, DType},
};

/// A call of a module.
pub(super) struct Called {
    pub place: Place,
    /// The call inside which it was.
    pub parent: Option<usize>,
    pub input: Vec<Vec<usize>>,
    pub output: Vec<Vec<usize>>,
    pub input_bytes: usize,
    pub output_bytes: usize,
    /// Its multiply-adds outside of the calls inside it.
    pub multiply_adds: u64,
}

#[derive(Default)]
struct Recording {
    calls: Vec<Called>,
    /// The running calls, each with the multiply-adds of those inside it.
    open: Vec<(usize, u64)>,
}

thread_local! {
    static RECORDING: Scoped<Recording> = const { Scoped::new() };
}

/// Whether a summary is running on this thread.
#[inline]
pub(in crate::module) fn is_running() -> bool {
    RECORDING.with(Scoped::is_some)
}

/// Runs `f`; also returns the calls, each after those around it.
pub(super) fn recorded<R>(f: impl FnOnce() -> R) -> (R, Vec<Called>) {
    let (result, recording) = during(&RECORDING, Recording::default(), f);
    (result, recording.calls)
}

fn with<R>(f: impl FnOnce(&mut Recording) -> R) -> Option<R> {
    RECORDING.with(|r| r.with(|r| r.as_mut().map(f)))
}

/// A call that a summary on this thread sees.
pub(in crate::module) struct Observed {
    before: u64,
}

impl Observed {
    /// Returns `None` if no summary is running.
    #[inline]
    pub fn begin(place: Place) -> Option<Self> {
        with(|r| {
            let parent = r.open.last().map(|&(call, _)| call);
            r.open.push((r.calls.len(), 0));
            let (input, output) = (Vec::new(), Vec::new());
            r.calls.push(Called { place, parent, input, output, input_bytes: 0, output_bytes: 0, multiply_adds: 0 });
        })?;
        Some(Observed { before: profile::multiply_adds() })
    }

    fn set(f: impl FnOnce(&mut Called)) {
        let _ = with(|r| r.open.last().map(|&(call, _)| f(&mut r.calls[call])));
    }

    #[inline]
    pub fn got(&self, input: &[AnyTensor]) {
        Self::set(|call| (call.input, call.input_bytes) = (shapes(input), bytes(input)));
    }

    #[inline]
    pub fn returned(self, output: &[AnyTensor]) {
        Self::set(|call| (call.output, call.output_bytes) = (shapes(output), bytes(output)));
    }
}

/// Also if the call failed.
impl Drop for Observed {
    #[inline]
    fn drop(&mut self) {
        let all = profile::multiply_adds().saturating_sub(self.before);
        let _ = with(|r| {
            let Some((call, inside)) = r.open.pop() else { return };
            r.calls[call].multiply_adds = all.saturating_sub(inside);
            if let Some((_, outer)) = r.open.last_mut() {
                *outer += all;
            }
        });
    }
}

#[inline]
pub(super) fn shapes(tensors: &[AnyTensor]) -> Vec<Vec<usize>> {
    tensors.iter().map(|t| t.shape().to_vec()).collect()
}

#[inline]
pub(super) fn bytes(tensors: &[AnyTensor]) -> usize {
    tensors.iter().map(|t| t.shape().iter().product::<usize>() * size(t.dtype())).sum()
}

/// The bytes of an element.
#[inline]
pub(super) fn size(dtype: DType) -> usize {
    match dtype {
        DType::F32 => 4,
        DType::F64 | DType::I64 => 8,
        DType::Bool => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::{
        module::{summary, summary_of},
        prelude::*,
    };

    #[test]
    fn a_panic_ends_the_recording() {
        let model = sequential![Linear::new(3, 2), Tanh];
        let x = Tensor::ones([5, 3]);
        let panics = || {
            summary_of(&model, || -> Result<Tensor> {
                let _ = model.forward(&x)?;
                panic!("half way")
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(!is_running() && profile::multiply_adds() == 0);
        let _ = model.forward(&x).unwrap();
        assert_eq!(profile::multiply_adds(), 0, "nothing is counted");
        // Nested; the inner one gives the same result as alone.
        let alone = summary(&model, &x).unwrap();
        let twice = || {
            assert_eq!(summary(&model, &x)?, alone);
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            model.forward(&x)
        };
        let outer = summary_of(&model, twice).unwrap();
        assert_eq!((&outer.rows, outer.multiply_adds), (&alone.rows, 3 * alone.multiply_adds));
    }
}
