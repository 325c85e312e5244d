//! One pass over a parameter, its gradient and what an optimizer remembers of it, side by side.

use super::{
    isa::{Isa, Kernel, dispatch},
    threads,
};
use crate::number::Real;

/// From so many elements on, the work is split among threads.
const PARALLEL: usize = 1 << 16;
/// So many elements make a task.
const TASK: usize = 1 << 14;
/// No optimizer remembers more arrays than this.
const MOST: usize = 4;

/// What is done to a stretch of a parameter: its values, its gradient, and the slots, each as long or empty.
///
/// It must be `#[inline(always)]`, so that its loop is compiled for each instruction set.
pub trait Stretch<T>: Sync {
    fn update(&self, value: &mut [T], grad: &[T], slots: &mut [&mut [T]]);
}

struct Loop<'a, 'b, T, S> {
    stretch: &'a S,
    value: &'a mut [T],
    grad: &'a [T],
    slots: &'a mut [&'b mut [T]],
}

impl<T: Real, S: Stretch<T>> Kernel for Loop<'_, '_, T, S> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        self.stretch.update(self.value, self.grad, self.slots);
    }
}

/// Runs `stretch` over all of a parameter; `slots` are as long as it, or empty.
pub fn update<T: Real>(stretch: &impl Stretch<T>, value: &mut [T], grad: &[T], slots: &mut [Vec<T>]) {
    let mut rest: [&mut [T]; MOST] = Default::default();
    let count = slots.len();
    rest.iter_mut().zip(slots).for_each(|(slice, slot)| *slice = slot);
    if value.len() < PARALLEL {
        return dispatch(Loop { stretch, value, grad, slots: &mut rest[..count] });
    }
    let len = value.len();
    let tasks = value.chunks_mut(TASK).zip(grad.chunks(TASK)).map(|(value, grad)| {
        let slots = rest.each_mut().map(|slot| {
            let len = slot.len().min(TASK);
            slot.split_off_mut(..len).expect("no longer than it is")
        });
        (value, grad, slots)
    });
    threads::each(len, tasks, |(value, grad, mut slots)| {
        dispatch(Loop { stretch, value, grad, slots: &mut slots[..count] });
    });
}
