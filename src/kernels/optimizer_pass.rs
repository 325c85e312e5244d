//! One pass over a parameter, its gradient and the optimizer's state for it.

use super::{
    isa::{Isa, Kernel, dispatch_for},
    threads,
    thresholds::{OPTIMIZER_PARALLEL as PARALLEL, OPTIMIZER_TASK as TASK},
};
use crate::number::Real;

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
    #[inline(always)]
    fn run<I: Isa>(self) {
        elements(self.pass, self.value, self.grad, self.slots);
    }
}

// A function, so that the compiler knows that its arguments do not overlap: what the pass reads is loaded once, and its
// branches move out of the loop. Loops without closures and long iterators: what is not inlined is compiled without this
// loop's vector instructions.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn elements<T: Real, P: Pass<T, N>, const N: usize>(pass: &P, value: &mut [T], grad: &[T], mut slots: [&mut [T]; N]) {
    // Slices of one length, so that no index is checked inside the loop.
    let len = value.len();
    let grad = &grad[..len];
    for slot in &mut slots {
        *slot = &mut std::mem::take(slot)[..len];
    }
    for i in 0..len {
        let mut old = [T::ZERO; N];
        for k in 0..N {
            old[k] = slots[k][i];
        }
        let (changed, new) = pass.element(value[i], grad[i], old);
        value[i] = changed;
        for k in 0..N {
            slots[k][i] = new[k];
        }
    }
}

/// Runs `pass` over all elements of a parameter; the slots are as long as it.
#[inline]
pub fn update<T: Real, const N: usize>(pass: &impl Pass<T, N>, value: &mut [T], grad: &[T], mut slots: [&mut [T]; N]) {
    if value.len() < PARALLEL {
        return dispatch_for::<T, _>(Loop { pass, value, grad, slots });
    }
    in_parts(value, grad, &mut slots, &|value, grad, slots| {
        let slots = slots.try_into().expect("a part of each slot");
        dispatch_for::<T, _>(Loop { pass, value, grad, slots });
    });
}

/// Compiled once for all passes.
fn in_parts<'a, T: Real>(
    value: &mut [T],
    grad: &[T],
    slots: &mut [&'a mut [T]],
    run: &(dyn Fn(&mut [T], &[T], Vec<&mut [T]>) + Sync),
) {
    let len = value.len();
    let tasks = value.chunks_mut(TASK).zip(grad.chunks(TASK)).map(|(value, grad)| {
        let mut parts: Vec<&'a mut [T]> = Vec::new();
        for slot in slots.iter_mut() {
            parts.push(slot.split_off_mut(..value.len()).expect("as long as the parameter"));
        }
        (value, grad, parts)
    });
    threads::each(len, tasks, |(value, grad, slots)| run(value, grad, slots));
}
