//! Counting multiply-adds while a summary runs a model, and, in tests, atomic operations.

use std::cell::Cell;

thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Adds to the count, if this thread is counting.
pub fn add(multiply_adds: usize) {
    if let Some(so_far) = COUNTED.get() {
        COUNTED.set(Some(so_far.saturating_add(multiply_adds as u64)));
    }
}

/// The count so far.
pub fn multiply_adds() -> u64 {
    COUNTED.get().unwrap_or(0)
}

/// Runs `f`; returns its result and the multiply-adds of this thread meanwhile. An enclosing count continues, even if
/// `f` panics.
pub fn counting<R>(f: impl FnOnce() -> R) -> (R, u64) {
    struct Restore(Option<u64>);
    impl Drop for Restore {
        fn drop(&mut self) {
            COUNTED.set(self.0.map(|before| before + multiply_adds()));
        }
    }
    let _restore = Restore(COUNTED.replace(Some(0)));
    (f(), multiply_adds())
}

#[cfg(test)]
thread_local! {
    static ATOMICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts an atomic operation: a reference counted up or down, a lock, an id for a node. Does nothing outside of this
/// crate's tests.
#[inline(always)]
pub fn atomic() {
    #[cfg(test)]
    ATOMICS.set(ATOMICS.get() + 1);
}

/// The atomic operations of this thread so far.
#[cfg(test)]
pub fn atomics() -> u64 {
    ATOMICS.get()
}
