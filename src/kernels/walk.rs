//! Going through several arrays together: in segments of elements, on all threads. It knows the addresses and sizes of
//! elements, but neither their types nor what is done with them, so it is compiled once.

use std::{mem::MaybeUninit, ptr, slice::from_raw_parts_mut};

use ndarray::ArrayRefD;

use super::{
    isa::{Avx512, Capability, Isa, capability},
    layout::{assert_word, by_stride},
    prefetch, threads,
    thresholds::{ELEMENTWISE_PARALLEL as PARALLEL, ELEMENTWISE_TASK as TASK},
};

/// Elements that are written at a time, if the result fits the caches.
const NEAR: usize = 2048;
/// Elements that are written at a time in a larger result, of which as many ahead are prefetched.
const FAR: usize = 512;
/// Minimum number of elements of a larger result.
pub const LARGE: usize = 1 << 18;
/// Maximum number of elements that are gathered at a time, if they are not contiguous or in short segments.
const GATHERED: usize = 256;
/// Minimum length of a segment that is a loop of its own.
const LONG: usize = 32;
/// The elements of the largest block.
const BLOCK: usize = Avx512::BLOCK;
/// Maximum number of arrays that are read together.
pub const MOST: usize = 3;

/// A loop over a segment: its arguments are the function's parameters, the contiguous elements of each source, and the
/// memory of the results, whose length says how many there are.
pub type RunFn = unsafe fn(*const (), &[*const u8; MOST], &mut [MaybeUninit<u8>]);

/// The versions of a loop.
pub struct Versions {
    /// By [`Capability`].
    pub run: [RunFn; 3],
    /// Whether they process whole blocks of [`Capability::BLOCKS`] elements only.
    pub blocks: bool,
    /// The bytes per element of each source; those of a result are last.
    pub sizes: [usize; MOST + 1],
}

/// What is done with a segment of elements: two words, which are passed in registers.
#[derive(Clone, Copy)]
pub struct Loop<'a> {
    versions: &'a Versions,
    p: *const (),
}

// SAFETY: it refers to parameters that are `Sync`.
#[allow(unsafe_code)]
unsafe impl Sync for Loop<'_> {}
// SAFETY: as above; what refers to something `Sync` is `Send`.
#[allow(unsafe_code)]
unsafe impl Send for Loop<'_> {}

impl<'a> Loop<'a> {
    /// With these parameters, which live as long as the loop.
    ///
    /// # Safety
    /// The versions must take their first argument as a pointer to what `p` points to, which must be `Sync`, and each may
    /// need the instructions of its own capability only.
    #[allow(unsafe_code)]
    #[inline]
    pub unsafe fn new(versions: &'a Versions, p: *const ()) -> Self {
        Loop { versions, p }
    }

    fn chosen(self) -> Chosen<'a> {
        let (capability, Versions { run, blocks, sizes }) = (capability() as usize, self.versions);
        let block = if *blocks { Capability::BLOCKS[capability] } else { 1 };
        Chosen { run: run[capability], p: self.p, block, sizes }
    }

    /// Runs it on one segment.
    ///
    /// # Safety
    /// There must be `n` elements of its types to read and to write, and `out` must not overlap the inputs.
    #[allow(unsafe_code)]
    pub unsafe fn call(self, inputs: &[*const u8; MOST], out: *mut u8, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.chosen().call(inputs, out, n) };
    }
}

/// The version of a loop for this CPU.
struct Chosen<'a> {
    run: RunFn,
    p: *const (),
    /// The elements of a block, or 1.
    block: usize,
    sizes: &'a [usize; MOST + 1],
}

impl Chosen<'_> {
    /// # Safety
    /// As [`Loop::call`].
    #[allow(unsafe_code)]
    #[inline]
    unsafe fn call(&self, inputs: &[*const u8; MOST], out: *mut u8, n: usize) {
        let whole = n & !(self.block - 1);
        // SAFETY: the caller's promise.
        unsafe {
            if whole > 0 {
                self.run(inputs, out, whole);
            }
            if whole < n {
                self.rest(inputs, out, n);
            }
        }
    }

    /// # Safety
    /// As [`Loop::call`]; `n` must be a multiple of the block.
    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn run(&self, inputs: &[*const u8; MOST], out: *mut u8, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { (self.run)(self.p, inputs, from_raw_parts_mut(out.cast(), n * self.sizes[MOST])) };
    }

    /// The last elements of `n`, which fill no block: the last block of elements again or, if there are too few, copies of
    /// them in a block of their own.
    ///
    /// # Safety
    /// As [`Loop::call`].
    #[allow(unsafe_code)]
    #[inline(never)]
    unsafe fn rest(&self, inputs: &[*const u8; MOST], out: *mut u8, n: usize) {
        let mut inputs = *inputs;
        let (block, sizes) = (self.block, self.sizes);
        let mut near: Near<BLOCK> = [const { MaybeUninit::uninit() }; MOST];
        let mut result = MaybeUninit::<[u64; BLOCK]>::uninit();
        // SAFETY: the caller's promise. Elements are words, of at most 8 bytes, and zeros are elements too.
        unsafe {
            if n > block {
                for k in 0..MOST {
                    inputs[k] = inputs[k].wrapping_add((n - block) * sizes[k]);
                }
                return self.run(&inputs, out.add((n - block) * sizes[MOST]), block);
            }
            for k in 0..MOST {
                if sizes[k] > 0 {
                    let copy = near[k].as_mut_ptr().cast::<u8>();
                    ptr::copy_nonoverlapping(inputs[k], copy, n * sizes[k]);
                    copy.add(n * sizes[k]).write_bytes(0, (block - n) * sizes[k]);
                    inputs[k] = copy;
                }
            }
            self.run(&inputs, result.as_mut_ptr().cast(), block);
            ptr::copy_nonoverlapping(result.as_ptr().cast(), out, n * sizes[MOST]);
        }
    }
}

/// An array that is read, whose elements are words: see [`assert_word`].
pub struct Source<'a> {
    first: *const u8,
    size: usize,
    shape: &'a [usize],
    /// In elements.
    strides: &'a [isize],
    /// Whether the result replaces it: then its elements are copied before they are overwritten.
    replaced: bool,
}

// SAFETY: elements are only read through it, and they are `Sync`.
#[allow(unsafe_code)]
unsafe impl Sync for Source<'_> {}

impl<'a> Source<'a> {
    pub fn of<A: Copy + Sync>(x: &'a ArrayRefD<A>) -> Self {
        Source { strides: x.strides(), ..Source::line(x.as_ptr(), x.shape(), false) }
    }

    /// The elements at an address, which the result may replace.
    pub fn line<A: Copy + Sync>(first: *const A, shape: &'a [usize], replaced: bool) -> Self {
        const { assert_word::<A>() };
        Source { first: first.cast(), size: size_of::<A>(), shape, strides: &[1], replaced }
    }

    fn is_one(&self) -> bool {
        self.shape.iter().all(|&n| n == 1)
    }

    fn is_row_major(&self) -> bool {
        in_order(self.shape, self.strides, (0..self.shape.len()).rev())
    }

    /// The step along an axis of an array that is broadcast to `ndim` axes.
    fn step(&self, axis: usize, ndim: usize) -> isize {
        match (axis + self.shape.len()).checked_sub(ndim) {
            Some(own) if self.shape[own] != 1 => self.strides[own],
            _ => 0,
        }
    }
}

/// Whether elements have no gaps along the axes, of which the one with the smallest step comes first.
fn in_order(shape: &[usize], strides: &[isize], mut axes: impl Iterator<Item = usize>) -> bool {
    let mut next = 1;
    shape.contains(&0)
        || axes.all(|axis| {
            let fits = shape[axis] == 1 || strides[axis] == next;
            next *= shape[axis] as isize;
            fits
        })
}

/// How to go through arrays that are broadcast to one shape.
pub struct Walk {
    /// Lengths and steps of the axes over the segments.
    axes: Vec<(usize, [isize; MOST])>,
    /// Elements per segment, and the steps between them.
    stretch: usize,
    steps: [isize; MOST],
    /// The number of elements.
    pub len: usize,
    /// The axes in order of falling stride, if the result should have the memory order of the sources and not be
    /// row-major.
    pub order: Option<Vec<usize>>,
}

impl Walk {
    /// # Panics
    /// If a source does not broadcast to `shape`.
    pub fn new(shape: &[usize], sources: &[Source<'_>]) -> Walk {
        let len = shape.iter().product();
        let mut flat = Walk { axes: Vec::new(), stretch: len, steps: [0; MOST], len, order: None };
        let mut sequential = true;
        for (k, source) in sources.iter().enumerate() {
            let whole = !source.is_one() && source.shape == shape;
            flat.steps[k] = isize::from(whole);
            sequential &= if whole { source.is_row_major() } else { source.is_one() };
        }
        if !sequential {
            flat.order = shared_order(shape, sources);
            if flat.order.is_none() {
                return Walk::strided(shape, sources, len);
            }
        }
        flat
    }

    /// In segments along the last axis. Axes that can be merged in all arrays become one.
    #[inline(never)]
    fn strided(shape: &[usize], sources: &[Source<'_>], len: usize) -> Walk {
        let ndim = shape.len();
        for source in sources {
            let own = source.shape;
            let fits =
                own.len() <= ndim && own.iter().zip(&shape[ndim - own.len()..]).all(|(&n, &to)| n == to || n == 1);
            assert!(fits, "a broadcastable shape");
        }
        let mut axes: Vec<(usize, [isize; MOST])> = Vec::with_capacity(ndim);
        for (axis, &n) in shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
            let mut steps = [0; MOST];
            steps.iter_mut().zip(sources).for_each(|(step, source)| *step = source.step(axis, ndim));
            match axes.last_mut() {
                Some((len, outer)) if outer.iter().zip(&steps).all(|(&o, &s)| o == s * n as isize) => {
                    *len *= n;
                    *outer = steps;
                }
                _ => axes.push((n, steps)),
            }
        }
        let (stretch, steps) = axes.pop().unwrap_or((1, [0; MOST]));
        Walk { axes, stretch, steps, len, order: None }
    }

    /// Advances to the next segment.
    fn advance(&self, place: &mut Place) {
        place.skip = 0;
        for (at, (n, steps)) in place.index.iter_mut().zip(&self.axes).rev() {
            *at += 1;
            let back = if *at < *n { 0 } else { *n as isize };
            for (offset, step) in place.offsets.iter_mut().zip(steps) {
                *offset += step - back * step;
            }
            if back == 0 {
                return;
            }
            *at = 0;
        }
    }

    fn place(&self, element: usize) -> Place {
        let (mut rest, skip) = (element / self.stretch, element % self.stretch);
        let mut place = Place { index: vec![0; self.axes.len()], offsets: [0; MOST], skip };
        for (at, (n, steps)) in place.index.iter_mut().zip(&self.axes).rev() {
            (*at, rest) = (rest % n, rest / n);
            for (offset, step) in place.offsets.iter_mut().zip(steps) {
                *offset += step * *at as isize;
            }
        }
        place
    }
}

/// A position in a walk: the index of its segment along each axis, the offset of the segment in each array, and the
/// number of elements before it in the segment.
struct Place {
    index: Vec<usize>,
    offsets: [isize; MOST],
    skip: usize,
}

/// The order of axes in which all sources, except those with one element, are contiguous in memory, with no axis
/// reversed.
fn shared_order(shape: &[usize], sources: &[Source<'_>]) -> Option<Vec<usize>> {
    let mut whole = sources.iter().filter(|source| !source.is_one());
    let first = whole.next()?;
    if whole.any(|other| other.strides != first.strides || other.shape != first.shape) || first.shape != shape {
        return None;
    }
    let order = by_stride(first.strides);
    in_order(shape, first.strides, order.iter().rev().copied()).then_some(order)
}

/// Where elements that are not contiguous are gathered.
type Near<const N: usize> = [MaybeUninit<[u64; N]>; MOST];

struct Job<'a> {
    walk: &'a Walk,
    sources: &'a [Source<'a>],
    out: *mut u8,
    size: usize,
    run: Chosen<'a>,
}

// SAFETY: each task writes its own elements; everything that the loop receives is `Sync`.
#[allow(unsafe_code)]
unsafe impl Sync for Job<'_> {}

/// Calls `run` for all elements of the walk.
///
/// # Safety
/// `walk` must belong to these sources, whose elements must exist; `out` must have space for its elements of `size` bytes
/// each, which nothing else reads or writes at the time, except that a replaced source is at `out` itself; and `run` must
/// take elements of these sizes.
#[allow(unsafe_code)]
pub unsafe fn run(walk: &Walk, sources: &[Source<'_>], out: *mut u8, size: usize, run: Loop<'_>) {
    let job = Job { walk, sources, out, size, run: run.chosen() };
    // SAFETY: the caller's promises; the tasks are parts of the whole that do not overlap.
    unsafe {
        if walk.len <= GATHERED && walk.axes.is_empty() {
            return job.once();
        }
        if walk.len < PARALLEL {
            return job.part(0, walk.len);
        }
        threads::for_each_of(job.run.run as usize, walk.len, walk.len.div_ceil(TASK), &|i| {
            job.part(i * TASK, TASK.min(walk.len - i * TASK));
        });
    }
}

impl Job<'_> {
    /// Processes a few elements that are one segment.
    #[allow(unsafe_code)]
    unsafe fn once(&self) {
        let mut near: Near<GATHERED> = [const { MaybeUninit::uninit() }; MOST];
        let start = Place { index: Vec::new(), offsets: [0; MOST], skip: 0 };
        let mut inputs = [ptr::null(); MOST];
        for (k, source) in self.sources.iter().enumerate() {
            inputs[k] = source.first;
            if self.walk.steps[k] != 1 || source.replaced {
                let near = near[k].as_mut_ptr().cast();
                // SAFETY: as in `part`.
                unsafe { self.bring(k, &start, near, self.walk.len) };
                inputs[k] = near;
            }
        }
        // SAFETY: as in `part`.
        unsafe { self.run.call(&inputs, self.out, self.walk.len) };
    }

    /// Processes elements from `start` on.
    #[allow(unsafe_code)]
    unsafe fn part(&self, start: usize, len: usize) {
        let (walk, mut left) = (self.walk, len);
        if len == 0 {
            return;
        }
        let mut place = walk.place(start);
        let mut near: Near<GATHERED> = [const { MaybeUninit::uninit() }; MOST];
        let near: [*mut u8; MOST] = near.each_mut().map(|near| near.as_mut_ptr().cast());
        // The segment whose single element, with a step of 0, was already repeated, and how often.
        let mut repeated = [(isize::MIN, 0); MOST];
        let direct = self.sources.iter().zip(walk.steps).all(|(source, step)| step == 1 && !source.replaced);
        let alone = walk.axes.is_empty() || walk.stretch >= LONG.max(self.run.block);
        let large = walk.len >= LARGE;
        let most = if !direct {
            GATHERED
        } else if large {
            FAR
        } else {
            NEAR
        };
        // SAFETY: a walk has the shape and the strides of the arrays themselves, so everything that it visits is inside
        // them; at most `GATHERED` elements of at most 8 bytes are gathered.
        unsafe {
            let mut out = self.out.add(start * self.size);
            while left > 0 {
                let mut inputs = [ptr::null(); MOST];
                let n = if alone {
                    let n = left.min(walk.stretch - place.skip).min(most);
                    if large && left > 3 * FAR {
                        prefetch::for_writing(out.wrapping_add(2 * FAR * self.size), n * self.size);
                    }
                    for (k, source) in self.sources.iter().enumerate() {
                        let step = walk.steps[k];
                        if step == 1 && !source.replaced {
                            inputs[k] =
                                source.first.offset((place.offsets[k] + place.skip as isize) * source.size as isize);
                            continue;
                        }
                        inputs[k] = near[k];
                        if step != 0 || repeated[k].0 != place.offsets[k] || repeated[k].1 < n {
                            self.bring(k, &place, near[k], n);
                            repeated[k] = (place.offsets[k], n);
                        }
                    }
                    place.skip += n;
                    n
                } else {
                    for (input, near) in inputs.iter_mut().zip(near) {
                        *input = near;
                    }
                    self.together(&mut place, near, left.min(GATHERED))
                };
                self.run.call(&inputs, out, n);
                (left, out) = (left - n, out.add(n * self.size));
                if place.skip == walk.stretch {
                    walk.advance(&mut place);
                }
            }
        }
    }

    /// Gathers the next `n` elements of short segments.
    #[allow(unsafe_code)]
    unsafe fn together(&self, place: &mut Place, near: [*mut u8; MOST], n: usize) -> usize {
        let (walk, mut done) = (self.walk, 0);
        while done < n {
            if place.skip == walk.stretch {
                walk.advance(place);
            }
            let now = (n - done).min(walk.stretch - place.skip);
            for (k, source) in self.sources.iter().enumerate() {
                // SAFETY: as in `part`.
                unsafe { self.bring(k, place, near[k].add(done * source.size), now) };
            }
            (done, place.skip) = (done + now, place.skip + now);
        }
        n
    }

    /// Copies `n` elements of a source, from `place` on, into contiguous memory.
    #[allow(unsafe_code)]
    unsafe fn bring(&self, k: usize, place: &Place, to: *mut u8, n: usize) {
        let (source, step) = (&self.sources[k], self.walk.steps[k]);
        // SAFETY: as in `part`; both places are aligned for words of this size, as which the elements can be read (`assert_word`).
        unsafe {
            let from = source.first.offset((place.offsets[k] + place.skip as isize * step) * source.size as isize);
            match source.size {
                1 => gather::<u8>(from, step, to, n),
                4 => gather::<u32>(from.cast(), step, to.cast(), n),
                8 => gather::<u64>(from.cast(), step, to.cast(), n),
                other => unreachable!("elements of {other} bytes"),
            }
        }
    }
}

#[allow(unsafe_code)]
#[inline]
unsafe fn gather<E: Copy>(from: *const E, step: isize, to: *mut E, n: usize) {
    // SAFETY: the caller promises that the elements exist and that `to` has space.
    unsafe {
        match step {
            1 => ptr::copy_nonoverlapping(from, to, n),
            0 => {
                let one = *from;
                (0..n).for_each(|i| to.add(i).write(one));
            }
            _ => (0..n).for_each(|i| to.add(i).write(*from.offset(i as isize * step))),
        }
    }
}
