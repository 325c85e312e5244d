//! The threads that kernels share: few large parallel regions, in which the caller also works.
//!
//! A region is a number of tasks, cut by the size of the problem and never by the number of threads, so the bits of the
//! result do not depend on it. Each participant first takes the tasks of its own share, in order (so that a core works
//! on the same data in the next step), then tasks that others have not begun. A caller never waits for a sleeping
//! thread: it does that thread's tasks itself. So a region costs about a microsecond while the other threads are awake,
//! and they stay awake for [`SPIN`] after the last one, unless the [`WaitPolicy`] says otherwise.
//!
//! If another process occupies a core, a thread of the pool stops in the middle of a task, and the caller waits for the
//! scheduler to continue it. Whether threads pay is measured: see [`judge`].

mod judge;

use std::{
    any::Any,
    cell::Cell,
    marker::PhantomData,
    ops::Range,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    ptr,
    sync::{
        Condvar, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use judge::{Judge, Key};

use super::memory::collected;
use crate::sync::{Restore, lock};

/// Maximum number of threads that share one region.
const MOST: usize = 64;
/// How long an idle thread looks for work before it sleeps: longer than the gaps between the regions of a training
/// step.
const SPIN: Duration = Duration::from_micros(100);

/// A function that runs one task.
type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// The tasks of one participant that were not begun yet: from `next` to `end`.
#[repr(align(128))]
struct Share {
    next: AtomicUsize,
    end: AtomicUsize,
}

struct ThreadPool {
    /// Locked by the caller whose region is running.
    region: Mutex<Judge>,
    /// The function of the running region, while it is open.
    task: Mutex<Option<&'static Task<'static>>>,
    shares: [Share; MOST],
    participants: AtomicUsize,
    /// Incremented for each region; idle threads watch it.
    epoch: AtomicU32,
    /// Whether tasks of the region may be begun.
    open: AtomicBool,
    /// Number of threads that are using the region.
    active: AtomicUsize,
    /// Whether the caller sleeps until no thread is active.
    waits: Mutex<bool>,
    done: Condvar,
    /// The payload of a panic in a task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Number of threads that are asleep.
    asleep: Mutex<usize>,
    wake: Condvar,
    started: AtomicUsize,
}

static POOL: ThreadPool = ThreadPool::new();

/// 0 until it is looked up.
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// 0 until it is looked up, then 1 + the policy.
static WAITING: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Whether this thread is inside a task: regions do not nest.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// The number of threads set by [`with_num_threads`] on this thread; 0 outside of it.
    static OWN_THREADS: Cell<usize> = const { Cell::new(0) };
}

/// Drops the payload of a panic. If that panics in turn, the new payload is leaked, since it cannot be reported.
pub(super) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// How many threads large operations use, including the caller's: the number of [`with_num_threads`] on this thread,
/// else that of [`set_num_threads`] or `NDNN_NUM_THREADS`, else the number of cores that this process may use.
///
/// # Panics
/// If `NDNN_NUM_THREADS` is not a whole number, at least 1.
pub fn num_threads() -> usize {
    match (OWN_THREADS.get(), THREADS.load(SeqCst)) {
        (0, 0) => {
            let cores = || thread::available_parallelism().map_or(1, usize::from);
            set_num_threads(asked(std::env::var("NDNN_NUM_THREADS").ok().as_deref()).unwrap_or_else(cores));
            THREADS.load(SeqCst)
        }
        (0, n) | (n, _) => n,
    }
}

/// What the environment asks for.
fn asked(variable: Option<&str>) -> Option<usize> {
    let number = |text: &str| text.parse().ok().filter(|&n| n > 0);
    variable.map(|text| {
        number(text).unwrap_or_else(|| panic!("NDNN_NUM_THREADS is {text:?}, expected a number of threads, at least 1"))
    })
}

#[track_caller]
fn checked(threads: usize) -> usize {
    assert!(threads > 0, "a number of threads is at least 1, got 0");
    threads.min(MOST)
}

/// Sets how many threads large operations use, at least 1 and at most 64: PyTorch's `torch.set_num_threads`.
///
/// It applies to the whole process and to operations that begin from now on; running ones keep their threads. Threads
/// that are no longer needed sleep. Results do not depend on it, to the last bit. If operations are called from several
/// threads at once, one of them uses these threads, and the others only their own.
///
/// # Forking
/// A child made by `fork` has only the thread that forked. Its operations run on that thread, which is slower but
/// correct. But if another thread of the parent was inside an operation at that moment, one of its locks may stay
/// locked in the child, and the child waits forever. As with PyTorch and OpenMP: fork before the first large operation,
/// or start a new process (`std::process::Command`).
///
/// # Panics
/// If `threads` is 0.
#[track_caller]
pub fn set_num_threads(threads: usize) {
    THREADS.store(checked(threads), SeqCst);
}

/// Runs `f`; operations that it calls on this thread use `threads` threads, at least 1 and at most 64.
///
/// With 1 nothing is shared. Use this to call ndnn from the threads of a server or of rayon, each of which works alone.
///
/// ```
/// use ndnn::{num_threads, with_num_threads};
/// assert_eq!(with_num_threads(1, num_threads), 1);
/// ```
///
/// # Panics
/// If `threads` is 0.
#[track_caller]
pub fn with_num_threads<R>(threads: usize, f: impl FnOnce() -> R) -> R {
    let _restored = Restore::set(&OWN_THREADS, checked(threads));
    f()
}

/// What the threads that share operations do between two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Look for more work for 100 µs before they sleep: fastest for training and for batches, and the default.
    Active,
    /// Sleep at once, and leave the core to others: for servers that do little at a time. Waking a thread costs about
    /// 50 µs, so only larger operations gain from threads.
    Passive,
}

/// Sets what threads do between two operations, for the whole process, as OpenMP's `OMP_WAIT_POLICY` does. The
/// environment variable `NDNN_WAIT_POLICY` (`active` or `passive`) sets the initial value.
pub fn set_wait_policy(policy: WaitPolicy) {
    WAITING.store(1 + policy as u32, SeqCst);
}

/// What threads do between two operations.
///
/// # Panics
/// If `NDNN_WAIT_POLICY` is neither `active` nor `passive`.
pub fn wait_policy() -> WaitPolicy {
    match WAITING.load(SeqCst) {
        0 => {
            set_wait_policy(asked_policy(std::env::var("NDNN_WAIT_POLICY").ok().as_deref()));
            wait_policy()
        }
        1 => WaitPolicy::Active,
        _ => WaitPolicy::Passive,
    }
}

fn asked_policy(variable: Option<&str>) -> WaitPolicy {
    match variable {
        None | Some("active") => WaitPolicy::Active,
        Some("passive") => WaitPolicy::Passive,
        Some(other) => panic!("NDNN_WAIT_POLICY is {other:?}, expected active or passive"),
    }
}

/// How long a thread looks for work before it sleeps.
fn spin() -> Duration {
    match wait_policy() {
        WaitPolicy::Active => SPIN,
        WaitPolicy::Passive => Duration::ZERO,
    }
}

// ------------------------------------------------------------------------------------------------------------- regions

impl ThreadPool {
    /// All bytes are 0, so that they are not in the program's file.
    const fn new() -> Self {
        Self {
            region: Mutex::new(Judge::new()),
            task: Mutex::new(None),
            shares: [const { Share { next: AtomicUsize::new(0), end: AtomicUsize::new(0) } }; MOST],
            participants: AtomicUsize::new(0),
            epoch: AtomicU32::new(0),
            open: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            waits: Mutex::new(false),
            done: Condvar::new(),
            panic: Mutex::new(None),
            asleep: Mutex::new(0),
            wake: Condvar::new(),
            started: AtomicUsize::new(0),
        }
    }

    /// Runs a region in which this thread is one of the `participants`; `Err` is the payload of a panic in a task.
    #[allow(unsafe_code)]
    fn run(&'static self, tasks: usize, participants: usize, task: &Task<'_>) -> thread::Result<()> {
        // SAFETY: the reference is `'static` in its type only. Threads use it between adding themselves to `active`
        // while the region is open and removing themselves again; `close` closes the region and waits until no thread
        // is active, before this function returns.
        let erased = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        self.open(erased, tasks, participants);
        let own = {
            let _inside = Restore::set(&INSIDE, true);
            catch_unwind(AssertUnwindSafe(|| self.work(task, 0)))
        };
        self.close();
        match (lock(&self.panic).take(), own) {
            (Some(payload), own) => {
                if let Err(second) = own {
                    discard(second);
                }
                Err(payload)
            }
            (None, own) => own,
        }
    }

    /// Runs tasks until none is left: first those of `mine`, then those of the others.
    fn work(&self, task: &Task<'_>, mine: usize) {
        let participants = self.participants.load(SeqCst);
        for k in 0..participants {
            let share = &self.shares[(mine + k) % participants];
            let end = share.end.load(SeqCst);
            loop {
                let i = share.next.fetch_add(1, SeqCst);
                if i >= end {
                    break;
                }
                task(i);
            }
        }
    }

    /// The loop of a thread of the pool, which never ends.
    fn serve(&self, id: usize) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen);
            // `active` first, `open` second: the caller closes first and then waits for `active`, so it waits for every
            // thread that saw the region open.
            self.active.fetch_add(1, SeqCst);
            if self.open.load(SeqCst) && id < self.participants.load(SeqCst) {
                let task = *lock(&self.task);
                if let Some(task) = task
                    && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work(task, id)))
                {
                    let second = lock(&self.panic).replace(payload);
                    second.into_iter().for_each(discard);
                }
            }
            // The lock orders this with respect to a caller that is about to sleep.
            if self.active.fetch_sub(1, SeqCst) == 1 && *lock(&self.waits) {
                self.done.notify_one();
            }
        }
    }

    /// Waits until the epoch is no longer `seen`.
    fn next_epoch(&self, seen: u32) -> u32 {
        if spin_until(|| self.epoch.load(SeqCst) != seen) {
            return self.epoch.load(SeqCst);
        }
        let mut asleep = lock(&self.asleep);
        while self.epoch.load(SeqCst) == seen {
            *asleep += 1;
            asleep = self.wake.wait(asleep).unwrap_or_else(|poisoned| poisoned.into_inner());
            *asleep -= 1;
        }
        self.epoch.load(SeqCst)
    }

    /// Opens a region of `tasks` tasks for `participants` threads.
    fn open(&'static self, task: &'static Task<'static>, tasks: usize, participants: usize) {
        for (i, share) in self.shares[..participants].iter().enumerate() {
            let own = portion(tasks, i, participants);
            share.end.store(own.end, SeqCst);
            share.next.store(own.start, SeqCst);
        }
        self.participants.store(participants, SeqCst);
        *lock(&self.task) = Some(task);
        self.open.store(true, SeqCst);
        self.epoch.fetch_add(1, SeqCst);
        while self.started.load(SeqCst) < participants - 1 {
            let id = self.started.fetch_add(1, SeqCst) + 1;
            let started = thread::Builder::new().name(format!("ndnn-{id}")).spawn(move || self.serve(id));
            // If no thread can be started, the caller does everything.
            drop(started);
        }
        if *lock(&self.asleep) > 0 {
            self.wake.notify_all();
        }
    }

    /// A caller that spins for long uses up its time slice, which it then lacks for its work.
    fn sleep_until_done(&self) {
        let mut waits = lock(&self.waits);
        *waits = true;
        while self.active.load(SeqCst) > 0 {
            waits = self.done.wait(waits).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *waits = false;
    }

    /// Closes the region and waits for the threads that are still working.
    fn close(&self) {
        self.open.store(false, SeqCst);
        let (from, spin) = (Instant::now(), spin());
        let mut turn = 0u32;
        while self.active.load(SeqCst) > 0 {
            turn += 1;
            std::hint::spin_loop();
            if turn.is_multiple_of(1 << 8) && from.elapsed() > spin {
                self.sleep_until_done();
            }
        }
        *lock(&self.task) = None;
    }

    /// The region's lock, unless another caller holds it. A panic leaves nothing that it guards half changed.
    fn try_lock(&self) -> Option<MutexGuard<'_, Judge>> {
        match self.region.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Runs a region alone or together, whichever suits its kind.
    fn share(&'static self, key: Key, tasks: usize, participants: usize, task: &Task<'_>) {
        let Some(mut judge) = self.try_lock() else { return (0..tasks).for_each(task) };
        let together = judge.together(key);
        let begin = Instant::now();
        let micros = || begin.elapsed().as_secs_f32() * 1e6;
        if together {
            let result = self.run(tasks, participants, task);
            judge.ran_together(key, micros());
            // Release the lock before the panic continues, so that whoever catches it finds it free.
            drop(judge);
            if let Err(payload) = result {
                resume_unwind(payload);
            }
            return;
        }
        // Others may use the threads meanwhile.
        drop(judge);
        (0..tasks).for_each(task);
        if let Some(mut judge) = self.try_lock() {
            judge.ran_alone(key, micros());
        }
    }
}

/// Looks for a condition, as long as an idle thread looks for work; returns `false` if it did not come true.
pub(super) fn spin_until(mut done: impl FnMut() -> bool) -> bool {
    let (start, spin) = (Instant::now(), spin());
    for turn in 1u32.. {
        if done() {
            return true;
        }
        std::hint::spin_loop();
        if turn.is_multiple_of(64) {
            // Lets other processes use this core.
            thread::yield_now();
            if start.elapsed() > spin {
                break;
            }
        }
    }
    false
}

/// The kind of a region: its loop, with this much work in this number of tasks.
fn key(kind: usize, tasks: usize, work: usize) -> Key {
    let mut hash = 0u64;
    for part in [kind, tasks, work] {
        hash = (hash ^ part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash.max(1)
}

/// Runs `task(0)`, …, `task(tasks - 1)`, each once, in any order, on the threads of the pool and this one.
///
/// For a few microseconds of work, call it with one task, which is a plain function call. Whether threads take part
/// depends on how long earlier regions of this line of code took, with the same number of tasks and the same amount of `work`
/// (in any unit).
#[track_caller]
pub fn for_each(work: usize, tasks: usize, task: &Task<'_>) {
    for_each_of(ptr::from_ref(Location::caller()).addr(), work, tasks, task);
}

/// As [`for_each`] from so much work on; less is done on this thread.
#[track_caller]
pub fn for_each_from(least: usize, work: usize, tasks: usize, task: &Task<'_>) {
    match work < least {
        true => (0..tasks).for_each(task),
        false => for_each(work, tasks, task),
    }
}

/// As [`for_each`]; `kind` tells one loop from another.
pub fn for_each_of(kind: usize, work: usize, tasks: usize, task: &Task<'_>) {
    let participants = num_threads().min(tasks);
    if participants > 1 && !INSIDE.get() {
        return POOL.share(key(kind, tasks, work), tasks, participants, task);
    }
    (0..tasks).for_each(task);
}

/// Part `i` of `parts` nearly equal parts of `n` things.
pub fn portion(n: usize, i: usize, parts: usize) -> Range<usize> {
    n * i / parts..n * (i + 1) / parts
}

/// An array of which each task takes its own part.
pub struct Cut<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out elements, which are `Send`, to other threads.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Cut<'_, T> {}

impl<'a, T> Cut<'a, T> {
    pub fn new(data: &'a mut [T]) -> Self {
        Cut { start: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    /// The address of an element, or of the end.
    pub fn at(&self, i: usize) -> *mut T {
        self.start.wrapping_add(i)
    }

    /// # Safety
    /// No element is in two parts.
    #[allow(unsafe_code)]
    pub unsafe fn part(&self, from: usize, len: usize) -> &'a mut [T] {
        assert!(from <= self.len && len <= self.len - from, "a part beyond the array");
        // SAFETY: it is inside the array, which is borrowed for as long; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }

    /// The `i`-th chunk of `size` elements; the last one may be shorter.
    ///
    /// # Safety
    /// As [`part`](Cut::part).
    #[allow(unsafe_code)]
    pub unsafe fn chunk(&self, i: usize, size: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { self.part(i * size, size.min(self.len - i * size)) }
    }
}

/// `f(item)` for each item; `work` as in [`for_each`].
#[track_caller]
pub fn each<I: Send>(work: usize, items: impl IntoIterator<Item = I>, f: impl Fn(I) + Sync) {
    each_of(ptr::from_ref(Location::caller()).addr(), work, collected(items), &f);
}

/// As [`each`], for a kind of work of its own.
#[allow(unsafe_code)]
pub fn each_of<I: Send>(kind: usize, work: usize, mut items: Vec<I>, f: &(dyn Fn(I) + Sync)) {
    let count = items.len();
    // No lock per item: it would wait until everything that the previous task wrote is in the cache, a tenth of the
    // time of regions that are limited by memory.
    // SAFETY: 0 is at most the capacity. The vector now owns only its memory; if a task panics, items that were not
    // handed out are leaked.
    unsafe { items.set_len(0) };
    let start = Cut { start: items.as_mut_ptr(), len: count, life: PhantomData };
    let start = &start;
    // SAFETY: each `i` is handed out once and is inside the items, whose memory outlives the region.
    for_each_of(kind, work, count, &|i| f(unsafe { start.start.add(i).read() }));
}

/// Calls `f(i, chunk)` for each chunk of `size` elements; the last one may be shorter.
#[allow(unsafe_code)]
#[track_caller]
pub fn chunks<T: Send>(data: &mut [T], size: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    let (len, size) = (data.len(), size.max(1));
    let cut = &Cut::new(data);
    // SAFETY: each `i` is handed out once, so the chunks do not overlap.
    for_each(len, len.div_ceil(size), &|i| f(i, unsafe { cut.chunk(i, size) }));
}

#[cfg(test)]
mod tests;
