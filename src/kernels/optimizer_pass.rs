//! One pass over a parameter, its gradient and the optimizer's state for it.

use super::{
    isa::{Isa, Kernel, dispatch},
    threads,
};
use crate::number::Real;

/// Minimum number of elements for which the work is split among threads.
const PARALLEL: usize = 1 << 16;
/// Elements per task.
const TASK: usize = 1 << 14;

/// What an optimizer does to one element of a parameter, given the elements of the `N` arrays of its state.
///
/// It must be `#[inline(always)]`, so that the loop is compiled for each instruction set.
pub trait Pass<T, const N: usize>: Sync {
    /// The new value and the new state.
    fn element(&self, value: T, grad: T, slots: [T; N]) -> (T, [T; N]);
}

struct Loop<'a, T, P, const N: usize> {
    pass: &'a P,
    value: &'a mut [T],
    grad: &'a [T],
    slots: [&'a mut [T]; N],
}

impl<T: Real, P: Pass<T, N>, const N: usize> Kernel for Loop<'_, T, P, N> {
    type Output = ();
    // Loops without closures: a closure that is not inlined would be compiled without this loop's vector instructions.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn run<I: Isa>(mut self) {
        // Slices of one length, so that no index is checked inside the loop.
        let len = self.value.len();
        let grad = &self.grad[..len];
        for slot in &mut self.slots {
            *slot = &mut std::mem::take(slot)[..len];
        }
        for i in 0..len {
            let mut old = [T::ZERO; N];
            for k in 0..N {
                old[k] = self.slots[k][i];
            }
            let (value, new) = self.pass.element(self.value[i], grad[i], old);
            self.value[i] = value;
            for k in 0..N {
                self.slots[k][i] = new[k];
            }
        }
    }
}

/// Runs `pass` over all elements of a parameter; the slots are as long as it.
pub fn update<T: Real, const N: usize>(pass: &impl Pass<T, N>, value: &mut [T], grad: &[T], mut slots: [&mut [T]; N]) {
    let len = value.len();
    if len < PARALLEL {
        return dispatch(Loop { pass, value, grad, slots });
    }
    let tasks = value.chunks_mut(TASK).zip(grad.chunks(TASK)).map(|(value, grad)| {
        let slots = slots.each_mut().map(|slot| slot.split_off_mut(..value.len()).expect("as long as the parameter"));
        (value, grad, slots)
    });
    threads::each(len, tasks, |(value, grad, slots)| dispatch(Loop { pass, value, grad, slots }));
}
