//! Randomness that can be repeated: [`manual_seed`], and the [`Generator`] behind every random function.
//!
//! One seed fixes everything: initialisation, dropout, shuffling. The draws of a process are numbered in the order in
//! which they are made, and each has a stream of random numbers of its own; inside a draw an element's value depends on
//! its position only. So **the same seed gives the same bits, whatever the number of threads** that ndnn works with.
//!
//! If a program draws from several threads of its own, then their order decides which draw gets which number. Give each
//! thread its own [`Generator`] there: every random function has a variant, its name ending in `_with`, that takes any
//! [`rand::Rng`] of the caller's.
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
//! let mask = Tensor::<bool>::bernoulli_with([4], 0.5, &mut rng)?;
//! # Ok::<(), ndnn::Error>(())
//! ```

use std::{
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

pub use rand::{Rng, SeedableRng, distr::Distribution};

use crate::sync::lock;

pub use crate::kernels::random::Generator;

/// The seed, and the number of the next draw.
struct State {
    seed: u64,
    draws: u64,
}

impl State {
    /// The standard library keys its hash maps with the system's randomness.
    fn unseeded() -> Self {
        State { seed: RandomState::new().hash_one(0), draws: 0 }
    }
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// Sets the seed of every draw that follows, in the whole process; without, each run has another, taken from the system.
pub fn manual_seed(seed: u64) {
    *lock(&STATE) = Some(State { seed, draws: 0 });
}

/// The seed that fixes every draw: the one set, or the one taken from the system.
pub fn seed() -> u64 {
    let mut state = lock(&STATE);
    state.get_or_insert_with(State::unseeded).seed
}

/// The generator of the process's next draw: what a random function uses that is not given one.
pub fn draw() -> Generator {
    let mut state = lock(&STATE);
    let state = state.get_or_insert_with(State::unseeded);
    state.draws += 1;
    Generator::new(state.seed, state.draws)
}
