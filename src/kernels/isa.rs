//! Vector instructions, chosen at run time: a loop is compiled once for each [`Capability`], and [`dispatch`] calls the
//! version for this CPU.

use std::sync::atomic::{AtomicU8, Ordering};

use num_traits::Float;

/// The vector instructions that kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// What every CPU of this architecture has.
    Default,
    /// AVX2 with FMA: 8 `f32` at a time.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL): 16 `f32` at a time.
    Avx512,
}

impl Capability {
    /// See [`Isa::BLOCK`].
    pub(crate) const BLOCKS: [usize; 3] = [Baseline::BLOCK, Avx2::BLOCK, Avx512::BLOCK];

    const ALL: [Capability; 3] = [Capability::Default, Capability::Avx2, Capability::Avx512];

    /// The best that this CPU has.
    fn best() -> Capability {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return match (avx2, avx512) {
                (true, true) => Capability::Avx512,
                (true, false) => Capability::Avx2,
                _ => Capability::Default,
            };
        }
        #[allow(unreachable_code)]
        Capability::Default
    }
}

/// 0 until it is looked up, then one more than the index in [`Capability::ALL`].
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// What kernels use now: the best of this CPU, or less if `NDNN_CPU_CAPABILITY` (`default`, `avx2`, `avx512`) says so.
///
/// # Panics
/// If that variable says anything else.
pub fn capability() -> Capability {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => looked_up(),
        n => Capability::ALL[usize::from(n) - 1],
    }
}

#[cold]
#[inline(never)]
fn looked_up() -> Capability {
    set_capability(asked(std::env::var("NDNN_CPU_CAPABILITY").ok().as_deref()))
}

/// What the environment asks for.
fn asked(variable: Option<&str>) -> Capability {
    match variable {
        None | Some("avx512") => Capability::Avx512,
        Some("avx2") => Capability::Avx2,
        Some("default") => Capability::Default,
        Some(other) => panic!("NDNN_CPU_CAPABILITY is {other:?}, expected default, avx2 or avx512"),
    }
}

/// Uses no more than this from now on, on all threads. Returns what is used, which is less if the CPU has less.
pub fn set_capability(most: Capability) -> Capability {
    let chosen = most.min(Capability::best());
    CHOSEN.store(chosen as u8 + 1, Ordering::Relaxed);
    chosen
}

/// What a loop is compiled for.
pub trait Isa: Copy + Send + Sync + 'static {
    /// Whether a multiplication and an addition are one instruction, rounded once.
    const FMA: bool;
    /// The elements of a block: as many as four vectors hold, which is the most that the compiler takes at a time.
    const BLOCK: usize = 32;

    /// `a · b + c`, rounded once where the CPU can.
    #[inline(always)]
    fn mul_add<T: Float>(a: T, b: T, c: T) -> T {
        if Self::FMA { a.mul_add(b, c) } else { a * b + c }
    }
}

/// See [`Capability::Default`].
#[derive(Clone, Copy)]
pub struct Baseline;
/// See [`Capability::Avx2`].
#[derive(Clone, Copy)]
pub struct Avx2;
/// See [`Capability::Avx512`].
#[derive(Clone, Copy)]
pub struct Avx512;

impl Isa for Baseline {
    const FMA: bool = cfg!(target_arch = "aarch64");
}
impl Isa for Avx2 {
    const FMA: bool = true;
}
impl Isa for Avx512 {
    const FMA: bool = true;
    const BLOCK: usize = 64;
}

/// A loop that [`dispatch`] compiles for each instruction set. `run`, and everything that it calls in the loop, must be
/// `#[inline(always)]`: what is not inlined is compiled for the baseline.
pub trait Kernel: Sized {
    /// What it returns.
    type Output;
    /// Runs it.
    fn run<I: Isa>(self) -> Self::Output;

    // As methods, these are compiled in the unit of the kernel's module, and not in one for all kernels from which the unit
    // that calls them would copy them.

    /// Runs it with AVX-512.
    ///
    /// # Safety
    /// The CPU has these instructions.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn with_avx512(self) -> Self::Output {
        self.run::<Avx512>()
    }

    /// Runs it with AVX2.
    ///
    /// # Safety
    /// The CPU has these instructions.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn with_avx2(self) -> Self::Output {
        self.run::<Avx2>()
    }

    /// Runs it by what every CPU has; compiled once, and not at each place that dispatches.
    #[inline(never)]
    fn with_baseline(self) -> Self::Output {
        self.run::<Baseline>()
    }
}

/// Runs the version of a kernel for [`capability`].
#[inline]
#[allow(unsafe_code)]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match capability() {
        // SAFETY: `set_capability` stores no more than what this CPU was found to have.
        #[cfg(target_arch = "x86_64")]
        Capability::Avx512 => unsafe { kernel.with_avx512() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Capability::Avx2 => unsafe { kernel.with_avx2() },
        _ => kernel.with_baseline(),
    }
}

/// As [`dispatch`], for a kernel that gains nothing from AVX-512, as one that adds up: it is compiled twice instead of three
/// times.
#[inline]
#[allow(unsafe_code)]
pub fn dispatch_narrow<K: Kernel>(kernel: K) -> K::Output {
    match capability() {
        // SAFETY: as in `dispatch`.
        #[cfg(target_arch = "x86_64")]
        Capability::Avx2 | Capability::Avx512 => unsafe { kernel.with_avx2() },
        _ => kernel.with_baseline(),
    }
}

/// As [`dispatch`] for numbers of 4 bytes; those of 8 bytes are rarer, and do without AVX-512.
#[inline]
pub fn dispatch_for<T, K: Kernel>(kernel: K) -> K::Output {
    if const { size_of::<T>() == size_of::<f32>() } { dispatch(kernel) } else { dispatch_narrow(kernel) }
}

/// For loops that mostly wait for the memory, for divisions or for roots: as [`dispatch`] for numbers of 4 bytes if they are
/// `WIDE`, and otherwise as [`dispatch_narrow`]; for numbers of 8 bytes, which are rarer, only what every CPU has.
#[inline]
pub fn dispatch_light<T, const WIDE: bool, K: Kernel>(kernel: K) -> K::Output {
    match const { (size_of::<T>() == size_of::<f32>(), WIDE) } {
        (true, true) => dispatch(kernel),
        (true, false) => dispatch_narrow(kernel),
        _ => kernel.with_baseline(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses() {
        let chosen = [None, Some("default"), Some("avx2"), Some("avx512")].map(asked);
        assert_eq!(chosen, [Capability::Avx512, Capability::Default, Capability::Avx2, Capability::Avx512]);
    }

    #[test]
    #[should_panic(expected = "NDNN_CPU_CAPABILITY is \"axv2\", expected default, avx2 or avx512")]
    fn a_slip_in_the_environment_is_refused() {
        asked(Some("axv2"));
    }
}
