//! Counting multiply-adds while a summary runs a model, and, in tests, atomic operations.

use std::cell::Cell;

thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Adds to the count, if one is under way on this thread.
pub fn add(multiply_adds: usize) {
    if let Some(so_far) = COUNTED.get() {
        COUNTED.set(Some(so_far.saturating_add(multiply_adds as u64)));
    }
}

/// The count so far.
pub fn multiply_adds() -> u64 {
    COUNTED.get().unwrap_or(0)
}

/// Starts a count; answers what [`stop`] restores.
pub fn start() -> Option<u64> {
    COUNTED.replace(Some(0))
}

/// Ends a count and answers it.
pub fn stop(before: Option<u64>) -> u64 {
    COUNTED.replace(before).unwrap_or(0)
}

#[cfg(test)]
thread_local! {
    static ATOMICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts an atomic operation: a link taken or dropped, a lock, a number for a node. Nothing outside this crate's tests.
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
