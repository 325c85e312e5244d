//! A closure with borrows, called from elsewhere on its thread while a function runs.

use std::{cell::Cell, ptr::NonNull, rc::Rc};

/// A closure with an argument of type `E`, while it is lent.
pub struct Lent<E: 'static>(Cell<Option<Borrowed<E>>>);

type Borrowed<E> = NonNull<dyn FnMut(&mut E)>;

impl<E: 'static> Lent<E> {
    /// Calls the closure; returns `false` if it is no longer lent, or is already running.
    #[allow(unsafe_code)]
    pub fn call(&self, event: &mut E) -> bool {
        let Some(mut closure) = self.0.take() else { return false };
        // SAFETY: the pointer is in the cell only while `lend` runs, which borrows the closure mutably for that time. `Lent` is
        // neither Send nor Sync, so this call is on `lend`'s thread, above its frame, which cannot end before the call does. The
        // pointer was taken out of the cell, so no second call makes a second reference.
        (unsafe { closure.as_mut() })(event);
        self.0.set(Some(closure));
        true
    }
}

/// Runs `f` with a handle through which `closure` can be called until `f` ends or panics.
#[allow(unsafe_code)]
pub fn lend<E: 'static, R>(closure: &mut dyn FnMut(&mut E), f: impl FnOnce(Rc<Lent<E>>) -> R) -> R {
    struct TakeBack<E: 'static>(Rc<Lent<E>>);
    impl<E: 'static> Drop for TakeBack<E> {
        fn drop(&mut self) {
            self.0.0.take();
        }
    }
    // SAFETY: only the lifetime in the type changes. `TakeBack`, a local that nothing can forget, empties the cell
    // before this function returns, so the pointer is not used after the borrow of `closure` ends.
    let erased = unsafe { std::mem::transmute::<NonNull<dyn FnMut(&mut E) + '_>, Borrowed<E>>(NonNull::from(closure)) };
    let lent = TakeBack(Rc::new(Lent(Cell::new(Some(erased)))));
    f(lent.0.clone())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn it_can_be_called_while_it_is_lent() {
        let (mut sum, mut kept) = (0, None);
        lend(&mut |n: &mut i32| sum += *n, |lent| {
            assert!(lent.call(&mut 2) && lent.call(&mut 3));
            kept = Some(lent);
        });
        assert_eq!(sum, 5);
        assert!(!kept.unwrap().call(&mut 1), "it was taken back");
    }

    #[test]
    fn it_does_not_call_itself_and_a_panic_takes_it_back() {
        let handle: Cell<Option<Rc<Lent<i32>>>> = Cell::new(None);
        let mut again = Vec::new();
        let mut closure = |n: &mut i32| {
            let lent = handle.take().unwrap();
            again.push(lent.call(n));
            handle.set(Some(lent));
            assert_eq!(*n, 1);
        };
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            lend(&mut closure, |lent| {
                handle.set(Some(lent.clone()));
                assert!(lent.call(&mut 1));
                lent.call(&mut 2)
            })
        }));
        assert!(panicked.is_err() && !handle.take().unwrap().call(&mut 1));
        assert_eq!(again, [false, false]);
    }
}
