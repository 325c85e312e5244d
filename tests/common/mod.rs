//! What several test files need: the text of a panic, checks of errors and of derivatives, and code that runs while a
//! thread ends.

#![allow(dead_code)] // no file needs all of it

use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ndnn::{
    ErrorKind, Result, Tensor,
    autograd::{gradcheck, gradgradcheck},
};

/// The text of a caught panic.
pub fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("of no text")
}

/// The text with which `f` panics.
#[track_caller]
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => text(&*payload).to_string(),
    }
}

/// Checks the kind of the error, and that its text has this part.
#[track_caller]
pub fn refused<R>(result: Result<R>, kind: ErrorKind, part: &str) {
    refused_with(result, kind, &[part]);
}

/// Checks the kind of the error, and that its text has every part.
#[track_caller]
pub fn refused_with<R>(result: Result<R>, kind: ErrorKind, parts: &[&str]) {
    let error = result.err().expect("an error");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

/// First and second derivatives of `f` with respect to every input, for both paths of the backward pass.
#[track_caller]
pub fn check(f: impl Fn(&[Tensor<f64>]) -> Result<Tensor<f64>>, inputs: &[Tensor<f64>]) {
    gradcheck(&f, inputs, Default::default()).unwrap();
    gradgradcheck(&f, inputs, Default::default()).unwrap();
}

/// Runs a function while the thread-locals of its thread are destroyed.
struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|f| f());
    }
}

thread_local! {
    static AT_END: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
}

/// Runs `before`, and `end` of its result while the thread-locals of this thread are destroyed, after all that `before`
/// created. It must come first on its thread: the first thread-local is the last one to be destroyed.
pub fn until_the_end<R: 'static>(before: impl FnOnce() -> R, end: impl FnOnce(R) + 'static) {
    AT_END.with_borrow_mut(|at_end| at_end.0 = None);
    let kept = before();
    AT_END.with_borrow_mut(|at_end| at_end.0 = Some(Box::new(move || end(kept))));
}
