//! [`Mode`]: whether a layer trains or evaluates.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::field::{Field, Members};

/// Whether a layer trains or evaluates: a field of each layer that behaves differently in the two.
///
/// A clone is a mode of its own.
#[derive(Debug)]
pub struct Mode(AtomicBool);

/// In training mode: how a layer starts.
impl Default for Mode {
    fn default() -> Self {
        Mode::training()
    }
}

impl Clone for Mode {
    fn clone(&self) -> Self {
        Mode(self.is_training().into())
    }
}

impl Mode {
    /// How a layer starts.
    pub(crate) const fn training() -> Self {
        Mode(AtomicBool::new(true))
    }

    /// Whether it trains.
    pub fn is_training(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self, training: bool) {
        self.0.store(training, Relaxed);
    }
}

impl Field for Mode {
    fn show<'a>(&'a self, _: &str, members: &mut Members<'a>) {
        members.modes.push(self);
    }
    fn copy(&self) -> Self {
        self.clone()
    }
}
