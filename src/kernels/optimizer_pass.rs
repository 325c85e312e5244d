//! One pass over a parameter, its gradient and the optimizer's state for it.

use super::{
    isa::{Isa, Kernel, dispatch_light},
    layout::empty_slices,
    threads::{self, Cut},
    thresholds::{OPTIMIZER_PARALLEL as PARALLEL, OPTIMIZER_TASK as TASK},
};
use crate::number::Real;

/// What an optimizer does to one element of a parameter, given the elements of the `N` arrays of its state.
///
/// It must be `#[inline(always)]`, so that the loop is compiled for each instruction set.
pub trait Pass<T, const N: usize>: Sync {
    /// Whether AVX-512 pays.
    const WIDE: bool = false;

    /// The new value and the new state.
    fn element(&self, value: T, grad: T, slots: [T; N]) -> (T, [T; N]);
}

struct Loop<'a, 's, T, P, const N: usize> {
    pass: &'a P,
    value: &'a mut [T],
    grad: &'a [T],
    slots: &'a mut [&'s mut [T]; N],
}

impl<T: Real, P: Pass<T, N>, const N: usize> Kernel for Loop<'_, '_, T, P, N> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut slots = empty_slices();
        for (slot, own) in slots.iter_mut().zip(self.slots) {
            *slot = own;
        }
        elements(self.pass, self.value, self.grad, slots);
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

/// Runs `pass` over all elements of a parameter; its `N` slots are as long as it.
#[inline]
pub fn update<T: Real, P: Pass<T, N>, const N: usize>(pass: &P, value: &mut [T], grad: &[T], slots: &mut [&mut [T]]) {
    in_parts(value, grad, slots, &|value, grad, slots| {
        let slots = slots.try_into().expect("a pass over the slots in use");
        if P::WIDE {
            dispatch_light::<T, true, _>(Loop { pass, value, grad, slots });
        } else {
            dispatch_light::<T, false, _>(Loop { pass, value, grad, slots });
        }
    });
}

/// Compiled once for all passes.
#[allow(unsafe_code)]
fn in_parts<T: Real>(
    value: &mut [T],
    grad: &[T],
    slots: &mut [&mut [T]],
    run: &(dyn Fn(&mut [T], &[T], &mut [&mut [T]]) + Sync),
) {
    let len = value.len();
    if len < PARALLEL {
        return run(value, grad, slots);
    }
    let (value, mut cuts) = (&Cut::new(value), Vec::new());
    for slot in slots {
        cuts.push(Cut::new(slot));
    }
    let cuts = &cuts;
    threads::for_each(len, len.div_ceil(TASK), &|i| {
        let mut slots = Vec::new();
        for cut in cuts {
            // SAFETY: each chunk is handed out once.
            slots.push(unsafe { cut.chunk(i, TASK) });
        }
        // SAFETY: as above.
        run(unsafe { value.chunk(i, TASK) }, &grad[i * TASK..], &mut slots);
    });
}
