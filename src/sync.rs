//! Locks that a panic does not poison, and thread-local values that exist while a function runs.
//!
//! A panic of a user's closure under a lock leaves the guarded value as it was before or between two complete steps,
//! never broken, so the next holder of the lock can use it. Nothing else in this crate calls `lock`, `read` or `write`
//! itself.

use std::{
    cell::{Cell, RefCell},
    mem::ManuallyDrop,
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread::LocalKey,
};

/// Locks a mutex, whether or not its last holder panicked.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading, whether or not the last holder panicked.
pub fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing, whether or not the last holder panicked.
pub fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Sets a thread's cell, and restores it when dropped, even if a panic unwinds.
#[must_use = "it restores the cell at once if it is not kept"]
pub struct Restore<T: Copy + 'static>(&'static LocalKey<Cell<T>>, T);

impl<T: Copy + 'static> Restore<T> {
    pub fn set(key: &'static LocalKey<Cell<T>>, value: T) -> Self {
        Restore(key, key.replace(value))
    }
}

impl<T: Copy + 'static> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// A thread-local value that exists while a function runs; [`during`] sets and removes it.
///
/// It has no destructor, so it can be used until the very end of the thread: another thread-local's destructor may drop
/// a graph or clone a model. Nothing leaks, since it is empty whenever no [`during`] is running.
pub struct Scoped<T> {
    value: ManuallyDrop<RefCell<Option<T>>>,
    /// Whether there is a value; hot paths read this.
    there: Cell<bool>,
}

impl<T> Scoped<T> {
    pub const fn new() -> Self {
        Scoped { value: ManuallyDrop::new(RefCell::new(None)), there: Cell::new(false) }
    }

    /// Runs `f` on the value, if there is one now. `f` must not access this value again.
    pub fn with<R>(&self, f: impl FnOnce(&mut Option<T>) -> R) -> R {
        let mut value = self.value.borrow_mut();
        let result = f(&mut value);
        self.there.set(value.is_some());
        result
    }

    pub fn is_some(&self) -> bool {
        self.there.get()
    }
}

/// Runs `f` with `value` in `place`; returns the result of `f` and the value as it is then. The previous value is
/// restored, even if `f` panics.
pub fn during<T, R>(place: &'static LocalKey<Scoped<T>>, value: T, f: impl FnOnce() -> R) -> (R, T) {
    struct Before<T: 'static>(&'static LocalKey<Scoped<T>>, Option<T>);
    impl<T> Drop for Before<T> {
        fn drop(&mut self) {
            let before = self.1.take();
            // Dropped after the borrow ended, since its destructor may access this value again.
            drop(self.0.with(|p| p.with(|now| std::mem::replace(now, before))));
        }
    }
    let restore = Before(place, place.with(|p| p.with(|now| now.replace(value))));
    let result = f();
    let value = place.with(|p| p.with(Option::take)).expect("put there above");
    drop(restore);
    (result, value)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_poisons_no_lock() {
        let (mutex, rw) = (Mutex::new(1), RwLock::new(2));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = (lock(&mutex), write(&rw));
            panic!("under both");
        }));
        assert!(panicked.is_err() && mutex.is_poisoned() && rw.is_poisoned());
        assert_eq!((*lock(&mutex), *read(&rw)), (1, 2));
        *write(&rw) += 1;
        assert_eq!(*read(&rw), 3);
    }

    #[test]
    fn during_restores_what_was() {
        thread_local! {
            static PLACE: Scoped<Vec<i32>> = const { Scoped::new() };
        }
        let now = || PLACE.with(|p| p.with(|v| v.clone()));
        let push = |x| PLACE.with(|p| p.with(|v| v.as_mut().unwrap().push(x)));
        let (inner, outer) = during(&PLACE, vec![1], || {
            let inner = during(&PLACE, vec![2], || push(3)).1;
            let panics = || during(&PLACE, vec![4], || panic!("inside")).0;
            assert!(catch_unwind(panics).is_err());
            push(5);
            inner
        });
        assert_eq!((inner, outer, now()), (vec![2, 3], vec![1, 5], None));
    }
}
