//! Reproducible randomness: [`manual_seed`], the [`Generator`] behind every random function, and [`with`], which
//! replaces it.
//!
//! One seed determines everything: initialisation, dropout, shuffling. The draws of a process are numbered in the order
//! in which they are made, and each has its own stream of random numbers; within a draw the value of an element depends
//! only on its position. So **the same seed gives the same bits, for any number of threads** that ndnn uses.
//!
//! If a program draws from several of its own threads, the order in which they draw determines which draw gets which
//! number. In this case give each thread its own generator: everything that draws inside [`with`] uses it.
//!
//! ```
//! use ndnn::{prelude::*, random};
//! ndnn::manual_seed(42);
//! let a: Tensor = Tensor::randn([2, 3]);
//! ndnn::manual_seed(42);
//! assert_eq!(a, Tensor::randn([2, 3]));
//!
//! use random::SeedableRng;
//! let mut rng = random::Generator::seed_from_u64(1);
//! let layer = random::with(&mut rng, || Linear::new(3, 2));
//! ```

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

pub use rand::{Rng, SeedableRng, distr::Distribution};

use crate::sync::{Restore, lock};

pub use crate::kernels::random::Generator;

/// The state of a sequence of draws: its seed, and how many draws were made.
///
/// ```
/// use ndnn::{prelude::*, random};
/// let state = random::state();
/// let a: Tensor = Tensor::randn([2, 3]);
/// random::set_state(state);
/// assert_eq!(a, Tensor::randn([2, 3]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RngState {
    /// The seed that [`manual_seed`] sets.
    pub seed: u64,
    /// The number of draws since then.
    pub draws: u64,
}

impl RngState {
    /// The standard library keys its hash maps with random numbers from the system.
    fn unseeded() -> Self {
        RngState { seed: RandomState::new().hash_one(0), draws: 0 }
    }
}

static PROCESS: Mutex<Option<RngState>> = Mutex::new(None);

thread_local! {
    /// The state that replaces it while [`with`] runs.
    static WITHIN: Cell<Option<RngState>> = const { Cell::new(None) };
    /// Whether nothing is drawn now.
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` on the state from which this thread draws.
fn current<R>(f: impl FnOnce(&mut RngState) -> R) -> R {
    match WITHIN.get() {
        Some(mut state) => {
            let result = f(&mut state);
            WITHIN.set(Some(state));
            result
        }
        None => f(lock(&PROCESS).get_or_insert_with(RngState::unseeded)),
    }
}

/// Sets the seed of every following draw, in the whole process; without a seed, each run uses a different one from the
/// system. Inside [`with`] it sets that of the draws there.
pub fn manual_seed(seed: u64) {
    set_state(RngState { seed, draws: 0 });
}

/// The seed that determines every draw: the one that was set, or the one from the system.
pub fn seed() -> u64 {
    state().seed
}

/// The state of the draws: saved with a checkpoint, it allows a run to be resumed exactly.
pub fn state() -> RngState {
    current(|state| *state)
}

/// Continues drawing from this state.
pub fn set_state(state: RngState) {
    current(|now| *now = state);
}

/// The generator of the next draw, for random functions that are not given one.
pub fn draw() -> Generator {
    if is_skipped() {
        return Generator::new(0, 0);
    }
    current(|state| {
        state.draws += 1;
        Generator::new(state.seed, state.draws)
    })
}

/// Runs `f`; meanwhile everything that draws on this thread draws from `rng`: initialisation, dropout, shuffling. One
/// number is taken from `rng`, the seed of these draws, so it advances by the same amount whatever `f` does.
///
/// ```
/// use ndnn::{functional as F, prelude::*, random::{self, Generator, SeedableRng}};
/// let x: Tensor = Tensor::ones([1000]);
/// let drop = |seed| random::with(&mut Generator::seed_from_u64(seed), || F::dropout(&x, 0.5, true));
/// assert_eq!(drop(1)?, drop(1)?);
/// assert_ne!(drop(1)?, drop(2)?);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub fn with<R>(rng: &mut (impl Rng + ?Sized), f: impl FnOnce() -> R) -> R {
    from_state(RngState { seed: rng.next_u64(), draws: 0 }, f)
}

/// Runs `f`, in which this thread draws from that state; later draws are as if `f` had drawn nothing.
pub fn from_state<R>(state: RngState, f: impl FnOnce() -> R) -> R {
    let _restored = Restore::set(&WITHIN, Some(state));
    f()
}

/// Runs `f`, in which this thread draws nothing: random tensors are 0.
pub(crate) fn skipped<R>(f: impl FnOnce() -> R) -> R {
    let _restored = Restore::set(&SKIPPED, true);
    f()
}

pub(crate) fn is_skipped() -> bool {
    SKIPPED.get()
}
