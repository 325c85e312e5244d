//! [`Mode`]: whether a layer is in training or evaluation mode.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::field::{Field, Members};

/// Whether a layer is in training or evaluation mode: a field of each layer that behaves differently in the two.
///
/// A clone has a mode of its own.
#[derive(Debug)]
pub struct Mode(AtomicBool);

/// Training mode, in which layers start.
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
    /// The mode in which layers start.
    pub(crate) const fn training() -> Self {
        Mode(AtomicBool::new(true))
    }

    /// Whether this is training mode.
    pub fn is_training(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, training: bool) {
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
