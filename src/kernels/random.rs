//! Random numbers from a counter, and bulk fills that give the same bits on any number of threads.

use std::{convert::Infallible, hint::black_box};

use rand::{
    Rng, SeedableRng, TryRng,
    distr::Distribution,
    rand_core::block::{self, BlockRng},
};

use super::{
    isa::{Isa, Kernel, dispatch_narrow},
    threads,
};

/// Blocks that are computed at once; they are independent, so the compiler vectorizes them.
const LANES: usize = 16;

/// Philox4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, 2011): ten rounds of a keyed bijection
/// over a 128-bit counter, whose upper half is the stream's number.
#[derive(Clone, Debug)]
struct Philox {
    key: u64,
    stream: u64,
    block: u64,
}

impl block::Generator for Philox {
    type Output = [u32; 4 * LANES];

    fn generate(&mut self, output: &mut Self::Output) {
        dispatch_narrow(Words { philox: self, out: output });
    }
}

impl Philox {
    #[inline(always)]
    fn fill(&mut self, output: &mut [u32; 4 * LANES]) {
        let [mut a, mut b] = [[0; LANES]; 2];
        let mut c = [self.stream as u32; LANES];
        let mut d = [(self.stream >> 32) as u32; LANES];
        for lane in 0..LANES {
            let block = self.block.wrapping_add(lane as u64);
            (a[lane], b[lane]) = (block as u32, (block >> 32) as u32);
        }
        self.block = self.block.wrapping_add(LANES as u64);
        let (mut k0, mut k1) = (self.key as u32, (self.key >> 32) as u32);
        // The compiler would unroll a loop of which it knows the length.
        for _ in 0..black_box(10) {
            for lane in 0..LANES {
                let p = u64::from(a[lane]) * 0xD251_1F53;
                let q = u64::from(c[lane]) * 0xCD9E_8D57;
                a[lane] = (q >> 32) as u32 ^ b[lane] ^ k0;
                b[lane] = q as u32;
                c[lane] = (p >> 32) as u32 ^ d[lane] ^ k1;
                d[lane] = p as u32;
            }
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        for (lane, words) in output.chunks_exact_mut(4).enumerate() {
            words.copy_from_slice(&[a[lane], b[lane], c[lane], d[lane]]);
        }
    }
}

/// Fills `out`, whose length is a multiple of that of a block.
struct Words<'a> {
    philox: &'a mut Philox,
    out: &'a mut [u32],
}

impl Kernel for Words<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for out in self.out.as_chunks_mut().0 {
            self.philox.fill(out);
        }
    }
}

/// A random number generator that is a pure function of key, stream and position (Philox4x32-10).
///
/// It is cheap to make and implements the traits of [`rand`], so that every distribution of `rand` and `rand_distr` works with
/// it. Make one with [`SeedableRng::seed_from_u64`], or from any other generator with [`SeedableRng::from_rng`].
///
/// ```
/// use ndnn::random::{Generator, Rng, SeedableRng};
/// let (mut a, mut b) = (Generator::seed_from_u64(7), Generator::seed_from_u64(7));
/// assert_eq!(a.next_u64(), b.next_u64());
/// ```
#[derive(Clone, Debug)]
pub struct Generator(BlockRng<Philox>);

impl Generator {
    /// The numbers of one of a key's 2⁶⁴ streams; no two streams share any.
    pub fn new(key: u64, stream: u64) -> Self {
        Self::at(key, stream, 0)
    }

    fn at(key: u64, stream: u64, block: u64) -> Self {
        Generator(BlockRng::new(Philox { key, stream, block }))
    }
}

impl SeedableRng for Generator {
    type Seed = [u8; 16];

    fn from_seed(seed: Self::Seed) -> Self {
        let seed = u128::from_le_bytes(seed);
        Self::new(seed as u64, (seed >> 64) as u64)
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_word())
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64_from_u32())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

/// What one draw needs from a generator.
#[derive(Clone, Copy)]
pub struct Key {
    key: u64,
    stream: u64,
}

impl Key {
    /// A fresh key.
    pub fn of(rng: &mut (impl Rng + ?Sized)) -> Self {
        Key { key: rng.next_u64(), stream: rng.next_u64() }
    }

    /// Random numbers, a multiple of 64 of them, from the start of one of 2³² parts of the draw.
    pub fn words(self, part: u64, out: &mut [u32]) {
        dispatch_narrow(Words { philox: &mut Philox { key: self.key, stream: self.stream, block: part << 32 }, out });
    }
}

/// Elements that are drawn one after the other. Part of the definition of the numbers: another size gives other
/// numbers.
const CHUNK: usize = 1 << 13;

/// Fills `out` with independent samples.
///
/// Each chunk has its own part of the key's counter, 2³² blocks long, so that distributions may use as many random numbers per
/// element as they like, and threads share nothing.
pub fn fill<T: Send>(out: &mut [T], distribution: &(impl Distribution<T> + Sync), Key { key, stream }: Key) {
    threads::chunks(out, CHUNK, &|i, chunk| {
        let mut rng = Generator::at(key, stream, (i as u64) << 32);
        chunk.iter_mut().for_each(|x| *x = distribution.sample(&mut rng));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers() {
        // From Random123's kat_vectors.
        for (block, stream, key, expected) in [
            (0, 0, 0, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            (u64::MAX, u64::MAX, u64::MAX, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                0x85a3_08d3_243f_6a88,
                0x0370_7344_1319_8a2e,
                0x299f_31d0_a409_3822,
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            let mut rng = Generator::at(key, stream, block);
            assert_eq!([(); 4].map(|()| rng.next_u32()), expected);
        }
    }

    #[test]
    fn positions_follow_each_other() {
        let mut whole = Generator::new(3, 4);
        let skipped: Vec<u32> = (0..400).map(|_| whole.next_u32()).skip(4 * 37).collect();
        let mut part = Generator::at(3, 4, 37);
        assert!(skipped.into_iter().all(|x| x == part.next_u32()));
    }
}
