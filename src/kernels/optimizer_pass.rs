//! One pass over a parameter, its gradient and what an optimizer remembers of it, side by side.

use super::{
    isa::{Isa, Kernel, dispatch},
    threads,
};
use crate::number::Real;

/// The smallest number of elements that is split among threads.
const PARALLEL: usize = 1 << 16;
/// Elements per task.
const TASK: usize = 1 << 14;

/// What an optimizer does to one element of a parameter, given the elements of `N` arrays that it remembers.
///
/// It must be `#[inline(always)]`, so that the loop is compiled for each instruction set.
pub trait Pass<T, const N: usize>: Sync {
    /// The new value, and what is remembered from now on.
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
    // Loops without closures: one that is not inlined is compiled without this loop's vector instructions.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn run<I: Isa>(mut self) {
        // Slices of one length, so that no index is checked inside.
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
