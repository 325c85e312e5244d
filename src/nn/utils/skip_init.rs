//! [`skip_init`].

use crate::random;

/// Makes a layer or a model without initialising it, for values that are set or loaded afterwards.
///
/// While `make` runs, nothing is drawn on this thread: what would be random is 0, and the generator does not advance.
///
/// ```
/// use ndnn::{nn::utils::skip_init, prelude::*};
/// let trained = Linear::new(5, 1);
/// let layer = skip_init(|| Linear::new(5, 1));
/// layer.load_state_dict(&trained.state_dict())?;
/// # Ok::<(), ndnn::Error>(())
/// ```
pub fn skip_init<M>(make: impl FnOnce() -> M) -> M {
    random::skipped(make)
}
