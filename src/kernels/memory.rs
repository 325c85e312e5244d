//! Freed buffers, kept for the next operation: fresh memory from the system costs more page faults to fill than most
//! operations take.

use std::{
    alloc::{Layout, dealloc},
    collections::{HashMap, VecDeque},
    mem::{ManuallyDrop, MaybeUninit, align_of, size_of},
    ops::Deref,
    sync::{Mutex, MutexGuard},
};

use ndarray::{ArcArray, Array, Array1, ArrayD, Dimension, IntoDimension, IxDyn, ShapeBuilder, s};

use super::{
    layout::{Shared, Strided},
    sizes::{must, refused},
    vmath::fill,
};
use crate::sync::lock;

/// Minimum number of bytes of a buffer that is kept: below that, the allocator is as fast.
const SMALLEST: usize = 4 << 10;
/// Minimum number of bytes for which the allocator is asked before a kernel runs; it reserves them without touching
/// them.
const ASKED: usize = 64 << 20;
/// Bytes of a cache line. A vector that straddles two of them costs twice as much.
pub const LINE: usize = 64;
/// The most bytes that are kept, unless [`set_limit`] says otherwise: 1 GiB.
const DEFAULT_LIMIT: usize = 1 << 30;

/// Bytes and alignment of an allocation.
type Key = (usize, usize);

/// A free allocation of one size and alignment.
struct Block {
    address: *mut u8,
    /// When it was returned, as a count of all that were returned before.
    time: u64,
}

impl Block {
    #[allow(unsafe_code)]
    fn free(self, key: Key) {
        let layout = Layout::from_size_align(key.0, key.1).expect("the layout of a vector");
        // SAFETY: the block came from a `Vec` whose allocation had this layout, and nothing else points to it.
        unsafe { dealloc(self.address, layout) };
    }
}

// SAFETY: nothing but the block points to its memory.
#[allow(unsafe_code)]
unsafe impl Send for Block {}

#[derive(Default)]
struct BufferPool {
    /// By bytes and alignment; the last of each list is the most recent.
    blocks: HashMap<Key, VecDeque<Block>>,
    /// When a block of which key was returned, oldest first; also of blocks that have been reused since.
    order: VecDeque<(u64, Key)>,
    bytes: usize,
    count: usize,
    limit: Option<usize>,
    time: u64,
    reused: u64,
    fresh: u64,
}

static POOL: Mutex<Option<BufferPool>> = Mutex::new(None);

fn locked() -> MutexGuard<'static, Option<BufferPool>> {
    lock(&POOL)
}

/// Runs `f` on the pool.
fn with<R>(f: impl FnOnce(&mut BufferPool) -> R) -> R {
    f(locked().get_or_insert_with(BufferPool::default))
}

/// What [`stats`] returns: what the pool holds, and how it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of all buffers that are kept.
    pub bytes: usize,
    /// Number of buffers that are kept.
    pub buffers: usize,
    /// Maximum number of bytes that are kept.
    pub limit: usize,
    /// How often a buffer was reused.
    pub reused: u64,
    /// How often no buffer was available, so that the allocator was asked.
    pub fresh: u64,
}

/// The state of the pool.
///
/// ```
/// use ndnn::{memory, prelude::*};
/// drop(Tensor::<f32>::ones([1000, 1000]));
/// memory::clear();
/// assert_eq!(memory::stats().bytes, 0);
/// ```
pub fn stats() -> Stats {
    with(|p| Stats { bytes: p.bytes, buffers: p.count, limit: p.limit(), reused: p.reused, fresh: p.fresh })
}

/// Sets the maximum number of bytes that are kept, initially 1 GiB; with 0 every buffer goes back to the allocator at
/// once.
///
/// This limits what is kept in addition to the tensors in use, not the tensors.
pub fn set_limit(bytes: usize) {
    let freed = with(|p| {
        p.limit = Some(bytes);
        p.shrink(bytes)
    });
    free(freed);
}

/// Returns everything that is kept to the allocator.
pub fn clear() {
    free(with(|p| p.shrink(0)));
}

/// Returns blocks to the allocator, outside of the pool's lock.
fn free(blocks: Vec<(Key, Block)>) {
    blocks.into_iter().for_each(|(key, block)| block.free(key));
}

impl BufferPool {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    fn push(&mut self, key: Key, address: *mut u8) {
        self.time += 1;
        self.blocks.entry(key).or_default().push_back(Block { address, time: self.time });
        self.order.push_back((self.time, key));
        self.bytes += key.0;
        self.count += 1;
        if self.order.len() > 2 * self.count + 64 {
            let blocks = &self.blocks;
            self.order.retain(|(time, key)| blocks[key].binary_search_by_key(time, |b| b.time).is_ok());
        }
    }

    /// The most recent block with this key.
    fn pop(&mut self, key: Key) -> Option<Block> {
        let block = self.blocks.get_mut(&key)?.pop_back()?;
        self.bytes -= key.0;
        self.count -= 1;
        Some(block)
    }

    /// Removes the oldest blocks until at most `most` bytes are kept.
    fn shrink(&mut self, most: usize) -> Vec<(Key, Block)> {
        let mut out = Vec::new();
        while self.bytes > most
            && let Some((time, key)) = self.order.pop_front()
        {
            let list = self.blocks.get_mut(&key).expect("a key of the map");
            // Otherwise the block has been reused since.
            if list.front().is_some_and(|block| block.time == time) {
                self.bytes -= key.0;
                self.count -= 1;
                out.extend(list.pop_front().map(|block| (key, block)));
            }
        }
        out
    }
}

/// The bytes that are allocated for `bytes`: one of eight sizes between a power of two and the next, so that a buffer
/// serves requests of nearly equal size, plus a [`LINE`], of which [`Aligned`] skips a part.
fn rounded(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(LINE);
    bytes.next_multiple_of(step) + LINE
}

/// Whether this number of bytes can be allocated. Small amounts are not checked: a kernel that does not get them
/// panics.
#[inline]
pub fn available(bytes: usize) -> bool {
    bytes < ASKED || reserved::<u8>(bytes).is_some()
}

/// An empty vector with space for `len` elements from the allocator; if that fails, it tries again after the pool was
/// cleared.
#[inline(never)]
fn reserved<T>(len: usize) -> Option<Vec<T>> {
    let mut vector = Vec::new();
    if vector.try_reserve_exact(len).is_err() {
        clear();
        vector.try_reserve_exact(len).ok()?;
    }
    Some(vector)
}

/// An empty vector with space for `len` elements, for what is kept for long or is not made of numbers.
///
/// # Panics
/// If there is not enough memory; `Vec::with_capacity` would end the process.
#[inline(never)]
#[track_caller]
pub fn vector<T>(len: usize) -> Vec<T> {
    match reserved(len) {
        Some(vector) => vector,
        None => refused(len, size_of::<T>()),
    }
}

/// Collects an iterator as `collect` does, but panics as [`vector`] does if there is not enough memory. (`extend` is compiled
/// in ten pieces for each iterator; [`copied`] is the way to copy many numbers.)
///
/// # Panics
/// If there is not enough memory.
#[inline]
#[track_caller]
pub fn collected<T>(elements: impl IntoIterator<Item = T>) -> Vec<T> {
    let elements = elements.into_iter();
    let mut out = vector(elements.size_hint().0);
    for element in elements {
        push(&mut out, element);
    }
    out
}

/// `f` of each number, as a loop that the compiler can make a vector loop.
///
/// # Panics
/// If there is not enough memory.
#[allow(unsafe_code)]
#[inline]
#[track_caller]
pub fn mapped<A: Copy, T: Copy>(x: &[A], f: impl Fn(A) -> T + Copy) -> Vec<T> {
    let mut out = vector(x.len());
    fill(x, &mut out.spare_capacity_mut()[..x.len()], f);
    // SAFETY: this many were just written.
    unsafe { out.set_len(x.len()) };
    out
}

/// `elements.to_vec()`, but panics as [`vector`] does if there is not enough memory.
///
/// # Panics
/// If there is not enough memory.
#[inline(never)]
#[track_caller]
pub fn copied<T: Copy>(elements: &[T]) -> Vec<T> {
    let mut out = vector(elements.len());
    out.extend_from_slice(elements);
    out
}

/// As [`collected`], up to the first error.
///
/// # Panics
/// If there is not enough memory.
#[inline]
#[track_caller]
pub fn try_collected<T, E>(elements: impl IntoIterator<Item = Result<T, E>>) -> Result<Vec<T>, E> {
    let elements = elements.into_iter();
    let mut out = vector(elements.size_hint().0);
    for element in elements {
        push(&mut out, element?);
    }
    Ok(out)
}

/// `vector.push(element)`, but panics as [`vector`] does if there is not enough memory.
#[inline]
#[track_caller]
pub fn push<T>(vector: &mut Vec<T>, element: T) {
    if vector.len() == vector.capacity() {
        grow(vector);
    }
    vector.push(element);
}

#[cold]
#[inline(never)]
#[track_caller]
fn grow<T>(vector: &mut Vec<T>) {
    if vector.try_reserve(1).is_err() {
        refused(vector.len() + 1, size_of::<T>());
    }
}

/// An empty vector with space for `len` elements, which are not zeroed, from the pool if it has a buffer.
///
/// # Panics
/// If there is not enough memory.
#[allow(unsafe_code)]
#[track_caller]
pub fn buffer<T: Copy>(len: usize) -> Vec<T> {
    const { assert!(LINE.is_multiple_of(size_of::<T>()), "a block holds a whole number of elements") };
    let Some(bytes) = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize) else {
        refused(len, size_of::<T>())
    };
    if bytes < SMALLEST {
        return Vec::with_capacity(len);
    }
    let bytes = rounded(bytes);
    let found = with(|p| {
        let block = p.pop((bytes, align_of::<T>()));
        match block {
            Some(_) => p.reused += 1,
            None => p.fresh += 1,
        }
        block
    });
    match found {
        // SAFETY: the block came from a `Vec` with this alignment and size, which is a whole number of `T`s (`rounded`
        // returns multiples of [`LINE`], see the assertion above), and nothing else points to it.
        Some(block) => unsafe { Vec::from_raw_parts(block.address.cast(), 0, bytes / size_of::<T>()) },
        None => match reserved(bytes / size_of::<T>()) {
            Some(vector) => vector,
            None => refused(len, size_of::<T>()),
        },
    }
}

/// The elements of an array that is being built, in memory of the pool; from [`SMALLEST`] bytes on aligned to a
/// [`LINE`].
pub struct Aligned<T> {
    /// The elements come after `skipped` zeros.
    vector: Vec<T>,
    skipped: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// Space for `len` elements.
    ///
    /// # Panics
    /// As [`buffer`].
    #[inline(never)]
    #[track_caller]
    pub fn with_capacity(len: usize) -> Self {
        if !is_kept::<T>(len) {
            return Vec::with_capacity(len).into();
        }
        let mut vector = buffer::<T>(len);
        let skipped = vector.as_ptr().align_offset(LINE);
        vector.resize(skipped, T::default());
        Aligned { vector, skipped }
    }

    /// Space for `len` more elements.
    pub fn spare(&mut self, len: usize) -> &mut [MaybeUninit<T>] {
        &mut self.vector.spare_capacity_mut()[..len]
    }

    /// # Safety
    /// The first `len` elements must have been written.
    #[allow(unsafe_code)]
    pub unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the caller's promise; what precedes them was written when the vector was made.
        unsafe { self.vector.set_len(self.skipped + len) };
    }

    /// # Panics
    /// If the shape has a different number of elements.
    #[inline(never)]
    #[allow(unsafe_code)]
    pub fn array<S: IntoDimension>(self, shape: S) -> Array<T, S::Dim> {
        let (Aligned { vector, skipped }, shape) = (self, shape.into_dimension());
        if skipped == 0 && !vector.is_empty() && shape.size_checked() == Some(vector.len()) {
            // SAFETY: as many elements as the shape has.
            return unsafe { Array::from_shape_vec_unchecked(shape, vector) };
        }
        let array = Array1::from_vec(vector).slice_move(s![skipped..]);
        array.into_shape_with_order(shape).expect("as many elements as the shape has")
    }

    /// As [`array`](Aligned::array), as an array that is shared.
    #[inline]
    #[allow(unsafe_code)]
    pub fn shared(self, strided: Strided) -> Shared<T> {
        let (shape, strides) = strided.into_parts();
        if self.skipped > 0 || self.vector.is_empty() || shape.size_checked() != Some(self.vector.len()) {
            return self.array(shape).into_shared();
        }
        // SAFETY: as many elements as the shape has, in row-major order.
        unsafe { ArcArray::from_shape_vec_unchecked(shape.strides(strides), self.vector) }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.vector[self.skipped..]
    }
}

impl<T> From<Vec<T>> for Aligned<T> {
    fn from(vector: Vec<T>) -> Self {
        Aligned { vector, skipped: 0 }
    }
}

/// Makes a vector `len` elements long and fills new places with `value`; if it must grow, its old elements are lost.
///
/// # Panics
/// If there is not enough memory.
#[inline(never)]
#[track_caller]
pub fn sized<T: Copy>(space: &mut Vec<T>, len: usize, value: T) {
    if space.capacity() < len {
        // Freed first, so that nothing is copied to the larger allocation.
        *space = Vec::new();
        *space = vector(len);
    }
    space.resize(len, value);
}

/// As [`buffer`], filled with one value.
#[inline(never)]
#[track_caller]
pub fn filled<T: Copy>(len: usize, value: T) -> Vec<T> {
    let mut out = buffer(len);
    out.resize(len, value);
    out
}

/// Keeps a vector's memory for the next [`buffer`]; frees it if it is small, of an unusual size, or beyond the limit.
pub fn recycle<T: Copy>(vector: Vec<T>) {
    let bytes = vector.capacity() * size_of::<T>();
    if bytes < SMALLEST || bytes != rounded(bytes - LINE) {
        return;
    }
    let freed = with(|p| {
        let limit = p.limit();
        if bytes > limit {
            return Vec::new();
        }
        let mut vector = ManuallyDrop::new(vector);
        p.push((bytes, align_of::<T>()), vector.as_mut_ptr().cast());
        p.shrink(limit)
    });
    free(freed);
}

/// Whether the memory of this many elements may be kept.
pub fn is_kept<T>(len: usize) -> bool {
    len >= SMALLEST / size_of::<T>()
}

/// Keeps an array's memory, if nothing else refers to it.
#[inline(never)]
pub fn recycle_shared<T: Copy>(array: Shared<T>) {
    if let Ok(owned) = array.try_into_owned_nocopy() {
        recycle(owned.into_raw_vec_and_offset().0);
    }
}

/// An array with no axes.
pub fn single<T: Copy + Default>(value: T) -> Shared<T> {
    Aligned::from(vec![value]).shared(Strided::of(IxDyn(&[])))
}

/// An array filled with one value, in memory of the pool.
///
/// # Panics
/// If there is not enough memory for the shape; see [`must`].
#[inline(never)]
#[track_caller]
pub fn full<T: Copy + Default>(op: &str, shape: &[usize], value: T) -> ArrayD<T> {
    let len = must::<T>(op, shape);
    let mut elements = Aligned::with_capacity(len);
    elements.vector.resize(elements.skipped + len, value);
    elements.array(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the pool belongs to the process; it uses sizes that no other test uses.
    #[test]
    fn buffers_come_back_within_the_limit() {
        let odd = 7_654_321;
        let mut first = buffer::<f32>(odd);
        first.extend((0..odd).map(|i| i as f32));
        let address = first.as_ptr();
        recycle(first);
        assert!(stats().bytes >= odd * 4);
        let other = buffer::<f64>(odd / 2);
        assert!(!std::ptr::eq(other.as_ptr().cast(), address), "another alignment");
        let again = buffer::<f32>(odd - 5);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert!(again.capacity() >= odd - 5);
        recycle(again);

        set_limit(odd * 8);
        for _ in 0..5 {
            let three: Vec<_> = (0..3).map(|_| buffer::<f32>(odd)).collect();
            three.into_iter().for_each(recycle);
            assert!(stats().bytes <= odd * 8);
        }
        set_limit(0);
        assert_eq!((stats().bytes, stats().buffers), (0, 0));
        recycle(buffer::<f32>(odd));
        assert_eq!(stats().bytes, 0);
        set_limit(DEFAULT_LIMIT);
        recycle(Vec::<f32>::new());
        recycle(vec![0f32; 3]);
        assert_eq!(buffer::<bool>(0).capacity(), 0);
    }

    /// The oldest blocks go first, whatever their size, and each is looked at once: 200,000 blocks of two sizes, half
    /// of which were reused, take a moment and not hours.
    #[test]
    fn blocks_leave_in_the_order_in_which_they_came() {
        let mut pool = BufferPool::default();
        let address = |i: usize| std::ptr::without_provenance_mut::<u8>(i * 64);
        let key = |i: usize| (4096 << (i % 2), 4);
        (1..=200_000).for_each(|i| pool.push(key(i), address(i)));
        // The most recent of one size are reused.
        (0..50_000).for_each(|i| assert_eq!(pool.pop(key(0)).unwrap().address, address(200_000 - 2 * i)));
        (1..=1000).for_each(|i| pool.push(key(i), address(200_000 + i)));
        let places = |blocks: Vec<(Key, Block)>| blocks.iter().map(|(_, b)| b.address.addr() / 64).collect::<Vec<_>>();
        let first = pool.bytes - 100 * 3 * 4096 / 2;
        assert_eq!(places(pool.shrink(first)), (1..=100).collect::<Vec<_>>());
        let rest = (101..=200_000).filter(|i| i % 2 == 1 || *i <= 100_000).chain(200_001..=201_000);
        assert_eq!(places(pool.shrink(0)), rest.collect::<Vec<_>>());
        assert_eq!((pool.bytes, pool.count, pool.order.len()), (0, 0, 0));
        // Pushing and popping in turn leaves no entries behind.
        for i in 0..10_000 {
            pool.push(key(i), address(i));
            pool.pop(key(i)).unwrap();
        }
        assert!(pool.order.len() < 200, "{}", pool.order.len());
    }

    #[test]
    fn a_buffer_that_cannot_be_had_panics() {
        // Sizes that do not reach the allocator, since the tests' allocator adds up what it is asked for.
        assert_eq!(collected((0..9).filter(|i| i % 3 > 0)), [1, 2, 4, 5, 7, 8]);
        assert_eq!(collected([1, 2, 3]), [1, 2, 3]);
        assert_eq!(try_collected([Ok(1), Err("two"), Ok(3)]), Err("two"));
        assert_eq!(try_collected::<_, ()>((0..9).filter(|i| i % 4 == 0).map(Ok)), Ok(vec![0, 4, 8]));
        for len in [isize::MAX as usize, usize::MAX, usize::MAX / 4 + 1] {
            let calls: [fn(usize); 4] = [
                |len| drop(buffer::<f32>(len)),
                |len| drop(Aligned::<f32>::with_capacity(len)),
                |len| drop(vector::<f32>(len)),
                |len| drop(collected((0..len).map(|_| 0f32))),
            ];
            for call in calls {
                let payload = std::panic::catch_unwind(|| call(len)).expect_err("too large");
                let text = payload.downcast_ref::<String>().expect("text");
                assert!(text.starts_with(&format!("out of memory: {len} numbers take ")), "{text}");
            }
        }
        assert!(available(1 << 20) && !available(1 << 60) && !available(usize::MAX));
    }

    #[test]
    fn large_arrays_begin_at_a_line() {
        for len in [0, 1, 1000, 1024, 5000, 70_001] {
            let mut elements = Aligned::with_capacity(len);
            elements.spare(len).iter_mut().enumerate().for_each(|(i, x)| {
                x.write(i as f32);
            });
            // SAFETY: all were just written.
            #[allow(unsafe_code)]
            unsafe {
                elements.set_len(len);
            }
            assert_eq!(elements.len(), len);
            let array = elements.array(vec![len, 1]);
            assert!(len * 4 < SMALLEST || array.as_ptr().addr().is_multiple_of(LINE), "{len}");
            assert!(array.iter().enumerate().all(|(i, &x)| x == i as f32) && array.len() == len);
            // All of it returns to the pool, including what was skipped.
            let (vector, offset) = array.into_raw_vec_and_offset();
            assert!(len == 0 || vector.len() == len + offset.unwrap_or(0));
            recycle(vector);
        }
    }

    #[test]
    fn sizes_round_up_little() {
        for bytes in [4096, 5000, 65_537, 1 << 20, 123_456_789] {
            let r = rounded(bytes);
            assert!(r >= bytes + LINE && r <= bytes + bytes / 8 + LINE && r.is_multiple_of(LINE), "{bytes} {r}");
            assert_eq!(rounded(r - LINE), r);
        }
    }
}
