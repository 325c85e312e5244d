//! [`Mode`]: whether a layer trains or evaluates.

use super::field::{Field, Members, MembersMut};

/// Whether a layer trains or evaluates: a field of each layer that behaves differently in the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    training: bool,
}

impl Default for Mode {
    fn default() -> Self {
        Mode::TRAINING
    }
}

impl Mode {
    /// How a layer starts.
    pub(crate) const TRAINING: Mode = Mode { training: true };

    /// Whether it trains.
    pub fn is_training(self) -> bool {
        self.training
    }
}

impl Mode {
    pub(crate) fn set(&mut self, training: bool) {
        self.training = training;
    }
}

impl Field for Mode {
    fn show<'a>(&'a self, _: &str, members: &mut Members<'a>) {
        members.training = Some(self.training);
    }
    fn show_mut<'a>(&'a mut self, members: &mut MembersMut<'a>) {
        members.modes.push(self);
    }
    fn copy(&self) -> Self {
        *self
    }
}
