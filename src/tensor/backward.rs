//! The derivative of an operation as a value: what its node calls.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use super::{Element, Tensor};
use crate::Result;

/// A backward function with any number of inputs. It receives the gradient, which inputs need one, and the output if it
/// is kept, and passes on the gradients of the inputs.
pub(crate) trait BackwardFn<T: Element>: Send + Sync {
    fn call(&self, g: &Tensor<T>, needed: &[bool], output: Option<&Tensor<T>>, grads: &mut Grads<'_, T>) -> Result<()>;
}

/// The closure of [`Tensor::op`].
pub(super) struct OfGradient<F, const N: usize>(pub F);
/// The closure of [`Tensor::op_with_output`].
pub(super) struct OfOutput<F, const N: usize>(pub F);
/// The closure of [`Tensor::op_many`].
pub(super) struct OfMany<F>(pub F);

impl<T: Element, F, const N: usize> BackwardFn<T> for OfGradient<F, N>
where
    F: Fn(&Tensor<T>, [bool; N]) -> Result<[Option<Tensor<T>>; N]> + Send + Sync,
{
    fn call(&self, g: &Tensor<T>, needed: &[bool], _: Option<&Tensor<T>>, grads: &mut Grads<'_, T>) -> Result<()> {
        pass((self.0)(g, flags(needed)), grads)
    }
}

impl<T: Element, F, const N: usize> BackwardFn<T> for OfOutput<F, N>
where
    F: Fn(&Tensor<T>, [bool; N], &Tensor<T>) -> Result<[Option<Tensor<T>>; N]> + Send + Sync,
{
    fn call(&self, g: &Tensor<T>, needed: &[bool], y: Option<&Tensor<T>>, grads: &mut Grads<'_, T>) -> Result<()> {
        pass((self.0)(g, flags(needed), y.expect("kept")), grads)
    }
}

impl<T: Element, F> BackwardFn<T> for OfMany<F>
where
    F: Fn(&Tensor<T>, &[bool]) -> Result<Vec<Option<Tensor<T>>>> + Send + Sync,
{
    fn call(&self, g: &Tensor<T>, needed: &[bool], _: Option<&Tensor<T>>, grads: &mut Grads<'_, T>) -> Result<()> {
        grads(&mut (self.0)(g, needed)?)
    }
}

/// Receives the gradients of an operation's inputs.
pub(crate) type Grads<'a, T> = dyn FnMut(&mut [Option<Tensor<T>>]) -> Result<()> + 'a;

/// A backward function: a closure, or a row of a table, which needs no memory.
pub(crate) enum Recorded<T: Element> {
    Closure(Box<dyn BackwardFn<T>>),
    Row(&'static dyn BackwardFn<T>),
}

/// What is kept of it: a value that a closure captured may panic when it is dropped.
pub(super) struct Closure<T: Element>(pub Option<Recorded<T>>);

impl<T: Element> Drop for Closure<T> {
    fn drop(&mut self) {
        contained(&mut || drop(self.0.take()));
    }
}

/// Runs code that drops a user's values. A panic is passed on unless another one is already unwinding: a second one
/// would abort the process.
fn contained(drops: &mut dyn FnMut()) {
    match catch_unwind(AssertUnwindSafe(drops)) {
        Err(payload) if thread::panicking() => std::mem::forget(payload),
        Err(payload) => resume_unwind(payload),
        Ok(()) => {}
    }
}

/// Passes on what a backward function returned; compiled once for each number of inputs.
#[inline(never)]
fn pass<T: Element, const N: usize>(returned: Result<[Option<Tensor<T>>; N]>, grads: &mut Grads<'_, T>) -> Result<()> {
    grads(&mut returned?)
}

fn flags<const N: usize>(needed: &[bool]) -> [bool; N] {
    *needed.first_chunk().expect("a flag per input")
}
