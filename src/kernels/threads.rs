//! The threads that kernels share: few large parallel regions, in which the caller works too.
//!
//! A region is a number of tasks, cut by the problem's size and never by the number of threads, so that its bits do not
//! depend on it. Each participant first takes the tasks of its own share, front to back (so that a core meets the same
//! data in the next step), then those that others have not begun. A caller never waits for a thread that is asleep: it
//! does that thread's tasks itself. So a region costs about a microsecond while the others are awake, and they stay awake
//! for [`SPIN`] after the last one.
//!
//! Where another process holds a core, a thread of the pool is stopped in the middle of a task, and the caller waits for
//! the scheduler to let it go on. A caller that had to wait so long stays alone for a while: see [`Patience`].

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// The most threads that share one region.
const MOST: usize = 64;
/// So long a thread without work looks for more before it sleeps: longer than the gaps between the regions of a step.
const SPIN: Duration = Duration::from_micros(100);

/// What runs one task.
type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// The tasks of one participant that nobody has begun: from `next` to `end`.
#[repr(align(128))]
struct Share {
    next: AtomicUsize,
    end: AtomicUsize,
}

struct Pool {
    /// Held by the caller of the region that is under way.
    region: Mutex<Patience>,
    /// The tasks of the region, while it is open.
    task: Mutex<Option<&'static Task<'static>>>,
    shares: [Share; MOST],
    participants: AtomicUsize,
    /// Grows with each region: what a thread without work watches.
    epoch: AtomicU32,
    /// Whether tasks of the region may be begun.
    open: AtomicBool,
    /// The threads that look at the region now.
    active: AtomicUsize,
    /// Whether the caller sleeps until nobody is active.
    waits: Mutex<bool>,
    done: Condvar,
    /// What a task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// The threads that sleep.
    asleep: Mutex<usize>,
    wake: Condvar,
    started: AtomicUsize,
}

static POOL: Pool = Pool::new();

/// 0 before it was looked up.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is inside a task: regions do not nest.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How many threads large operations use, the caller's among them: `NDNN_NUM_THREADS`, or else the number of cores that
/// this process may use.
///
/// # Panics
/// If that variable is no number from 1 on.
pub fn num_threads() -> usize {
    match THREADS.load(SeqCst) {
        0 => {
            let cores = || thread::available_parallelism().map_or(1, usize::from);
            set_num_threads(asked(std::env::var("NDNN_NUM_THREADS").ok().as_deref()).unwrap_or_else(cores));
            THREADS.load(SeqCst)
        }
        n => n,
    }
}

/// What the environment asks for.
fn asked(variable: Option<&str>) -> Option<usize> {
    let number = |text: &str| text.parse().ok().filter(|&n| n > 0);
    variable.map(|text| {
        number(text).unwrap_or_else(|| panic!("NDNN_NUM_THREADS is {text:?}, expected a number of threads, at least 1"))
    })
}

/// Sets how many threads large operations use, at least 1: PyTorch's `torch.set_num_threads`.
///
/// The results do not depend on it, to the last bit. Operations called from several threads at once do not add up: one of
/// them uses these threads, the others their own only.
///
/// # Panics
/// If `threads` is 0.
#[track_caller]
pub fn set_num_threads(threads: usize) {
    assert!(threads > 0, "a number of threads is at least 1, got 0");
    THREADS.store(threads.min(MOST), SeqCst);
}

// ------------------------------------------------------------------------------------------------------------ stalling

/// What is remembered of waiting for threads that were stopped in the middle of a task.
struct Patience {
    stalls: u32,
    alone_until: Option<Instant>,
}

impl Patience {
    /// A wait from here on, and of more than half of the caller's own work, says that another process holds a core.
    const STALL: Duration = Duration::from_micros(300);
    /// So long a caller stays alone after the first stall; twice as long after each further one, up to [`Self::MOST`].
    const ALONE: Duration = Duration::from_millis(50);
    const MOST: u32 = 4;

    fn alone(&mut self, now: Instant) -> bool {
        self.alone_until.is_some_and(|until| now < until)
    }

    /// How long the last stall left the caller alone.
    fn penalty(&self) -> Duration {
        Self::ALONE * (1 << self.stalls.saturating_sub(1))
    }

    /// Takes note of a wait that began at `from` and is over, in a region that began at `begin`.
    fn waited(&mut self, begin: Instant, from: Instant) {
        let now = Instant::now();
        if now - from > Self::STALL.max((from - begin) / 2) {
            self.stalls = (self.stalls + 1).min(Self::MOST);
            self.alone_until = Some(now + self.penalty());
        } else if self.alone_until.is_some_and(|until| now > until + self.penalty()) {
            // It went well for as long as it was left alone.
            (self.stalls, self.alone_until) = (0, None);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- regions

impl Pool {
    const fn new() -> Self {
        Self {
            region: Mutex::new(Patience { stalls: 0, alone_until: None }),
            task: Mutex::new(None),
            shares: [const { Share { next: AtomicUsize::new(0), end: AtomicUsize::new(0) } }; MOST],
            participants: AtomicUsize::new(1),
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

    /// Runs a region in which this thread is one of the `participants`.
    #[allow(unsafe_code)]
    fn run(&'static self, tasks: usize, participants: usize, task: &Task<'_>, begin: Instant, patience: &mut Patience) {
        // SAFETY: the reference lives longer only in type. Threads use it between adding themselves to `active` with the
        // region open and taking themselves off again; `close` shuts the region and waits until nobody is active, before
        // this function returns.
        let erased = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        self.open(erased, tasks, participants);
        INSIDE.set(true);
        let own = catch_unwind(AssertUnwindSafe(|| self.work(task, 0)));
        INSIDE.set(false);
        self.close(begin, patience);
        if let Some(payload) = lock(&self.panic).take().or(own.err()) {
            resume_unwind(payload);
        }
    }

    /// Begins tasks until none is left: first those of `mine`, then those of the others.
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

    /// A thread of the pool, for ever.
    fn serve(&self, id: usize) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen);
            // `active` first, `open` second: the caller closes first and then waits for `active`, so that a thread which
            // saw the region open is waited for.
            self.active.fetch_add(1, SeqCst);
            if self.open.load(SeqCst) && id < self.participants.load(SeqCst) {
                let task = *lock(&self.task);
                if let Some(task) = task
                    && let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work(task, id)))
                {
                    *lock(&self.panic) = Some(payload);
                }
            }
            // The lock orders this with a caller that is about to sleep.
            if self.active.fetch_sub(1, SeqCst) == 1 && *lock(&self.waits) {
                self.done.notify_one();
            }
        }
    }

    /// Waits for another epoch than `seen`.
    fn next_epoch(&self, seen: u32) -> u32 {
        let start = Instant::now();
        for turn in 1u32.. {
            let epoch = self.epoch.load(SeqCst);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
            if turn.is_multiple_of(64) {
                // Whoever else wants this core gets it.
                thread::yield_now();
                if start.elapsed() > SPIN {
                    break;
                }
            }
        }
        let mut asleep = lock(&self.asleep);
        while self.epoch.load(SeqCst) == seen {
            *asleep += 1;
            asleep = self.wake.wait(asleep).unwrap_or_else(|poisoned| poisoned.into_inner());
            *asleep -= 1;
        }
        self.epoch.load(SeqCst)
    }

    /// Opens a region of `tasks` for `participants`.
    fn open(&'static self, task: &'static Task<'static>, tasks: usize, participants: usize) {
        for (i, share) in self.shares[..participants].iter().enumerate() {
            share.end.store(tasks * (i + 1) / participants, SeqCst);
            share.next.store(tasks * i / participants, SeqCst);
        }
        self.participants.store(participants, SeqCst);
        *lock(&self.task) = Some(task);
        self.open.store(true, SeqCst);
        self.epoch.fetch_add(1, SeqCst);
        while self.started.load(SeqCst) < participants - 1 {
            let id = self.started.fetch_add(1, SeqCst) + 1;
            let started = thread::Builder::new().name(format!("ndnn-{id}")).spawn(move || self.serve(id));
            // Where no thread can be had the caller does everything.
            drop(started);
        }
        if *lock(&self.asleep) > 0 {
            self.wake.notify_all();
        }
    }

    /// A caller that spins for long uses up its share of the core, which it then lacks for its work.
    fn sleep_until_done(&self) {
        let mut waits = lock(&self.waits);
        *waits = true;
        while self.active.load(SeqCst) > 0 {
            waits = self.done.wait(waits).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *waits = false;
    }

    /// Closes the region and waits for those that are still at work.
    fn close(&self, begin: Instant, patience: &mut Patience) {
        self.open.store(false, SeqCst);
        let from = Instant::now();
        let mut turn = 0u32;
        while self.active.load(SeqCst) > 0 {
            turn += 1;
            std::hint::spin_loop();
            if turn.is_multiple_of(1 << 8) && from.elapsed() > SPIN {
                self.sleep_until_done();
            }
        }
        patience.waited(begin, from);
        *lock(&self.task) = None;
    }
}

/// Runs `task(0)`, …, `task(tasks - 1)`, each once, in no promised order, on the pool's threads and this one.
///
/// For a few microseconds of work, call it with one task, which is a plain call.
pub fn for_each(tasks: usize, task: impl Fn(usize) + Sync) {
    let participants = num_threads().min(tasks);
    if participants > 1
        && !INSIDE.get()
        && let Ok(mut patience) = POOL.region.try_lock()
    {
        let now = Instant::now();
        if !patience.alone(now) {
            return POOL.run(tasks, participants, &task, now, &mut patience);
        }
    }
    (0..tasks).for_each(task);
}

/// `f(item)` for each item.
pub fn each<I: Send>(items: Vec<I>, f: impl Fn(I) + Sync) {
    if items.len() == 1 || num_threads() == 1 {
        return items.into_iter().for_each(f);
    }
    let items: Vec<Mutex<Option<I>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    for_each(items.len(), |i| {
        if let Some(item) = lock(&items[i]).take() {
            f(item);
        }
    });
}

/// `f(i, chunk)` for each chunk of `size` elements, of which the last may be shorter.
#[allow(unsafe_code)]
pub fn chunks<T: Send>(data: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    struct Start<T>(*mut T);
    // SAFETY: only moves chunks, which are `Send`, to other threads.
    unsafe impl<T: Send> Sync for Start<T> {}
    let (len, size) = (data.len(), size.max(1));
    let start = Start(data.as_mut_ptr());
    let start = &start;
    for_each(len.div_ceil(size), |i| {
        let from = i * size;
        // SAFETY: each `i` is handed out once, so the chunks do not overlap, and all lie within `data`.
        f(i, unsafe { std::slice::from_raw_parts_mut(start.0.add(from), size.min(len - from)) });
    });
}

/// `f(0)`, …, `f(tasks - 1)`, in this order.
pub fn collect<R: Send>(tasks: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let mut out: Vec<Option<R>> = (0..tasks).map(|_| None).collect();
    chunks(&mut out, 1, |i, slot| slot[0] = Some(f(i)));
    out.into_iter().map(|r| r.expect("each task ran")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 4, 7] {
            set_num_threads(threads);
            for tasks in [0, 1, 2, 3, 16, 100] {
                for _ in 0..50 {
                    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    for_each(tasks, |i| {
                        counts[i].fetch_add(1, SeqCst);
                    });
                    assert!(counts.iter().all(|c| c.load(SeqCst) == 1));
                }
                let mut data = vec![0; tasks];
                chunks(&mut data, 3, |i, chunk| chunk.fill(i));
                assert!(data.iter().enumerate().all(|(i, &x)| x == i / 3));
                assert_eq!(collect(tasks, |i| i * i), (0..tasks).map(|i| i * i).collect::<Vec<_>>());
            }
        }
    }

    /// Two tasks that wait for each other: they end well only if two threads are at work at once. In a pool of its own,
    /// so that no other test has it; several trials, because the machine may be busy.
    #[test]
    fn two_tasks_run_at_once() {
        let pool: &'static Pool = Box::leak(Box::new(Pool::new()));
        let met = (0..50).any(|_| {
            let (arrived, late) = (AtomicUsize::new(0), AtomicBool::new(false));
            let now = Instant::now();
            let wait_for_the_other = |_| {
                arrived.fetch_add(1, SeqCst);
                while arrived.load(SeqCst) == 1 {
                    if now.elapsed() > Duration::from_millis(200) {
                        late.store(true, SeqCst);
                        break;
                    }
                    thread::yield_now();
                }
            };
            pool.run(2, 2, &wait_for_the_other, now, &mut lock(&pool.region));
            !late.load(SeqCst)
        });
        assert!(met, "no two tasks ran at once in 50 trials");
    }

    /// The other task outlasts the caller's by far more than [`SPIN`], so that the caller sleeps, and must be woken.
    #[test]
    fn a_caller_that_sleeps_is_woken_when_all_is_done() {
        let pool: &'static Pool = Box::leak(Box::new(Pool::new()));
        let caller = thread::current().id();
        for _ in 0..5 {
            let (joined, finished) = (AtomicBool::new(false), AtomicUsize::new(0));
            let now = Instant::now();
            let task = |_| {
                if thread::current().id() == caller {
                    while !joined.load(SeqCst) && now.elapsed() < Duration::from_secs(1) {
                        thread::yield_now();
                    }
                } else {
                    joined.store(true, SeqCst);
                    thread::sleep(50 * SPIN);
                }
                finished.fetch_add(1, SeqCst);
            };
            pool.run(2, 2, &task, now, &mut lock(&pool.region));
            assert_eq!(finished.load(SeqCst), 2);
        }
    }

    #[test]
    fn the_environment_is_read_or_refused() {
        assert_eq!([None, Some("3")].map(asked), [None, Some(3)]);
        for wrong in ["", "0", "-1", "two"] {
            assert!(catch_unwind(|| asked(Some(wrong))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn callers_at_once_and_nested_regions() {
        set_num_threads(4);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        for_each(5, |_| {
                            for_each(3, |_| {
                                total.fetch_add(1, SeqCst);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(SeqCst), 4 * 200 * 15);
    }

    #[test]
    fn a_panic_comes_back_and_the_pool_lives_on() {
        set_num_threads(3);
        for bad in 0..6 {
            let result = catch_unwind(|| for_each(6, |i| assert!(i != bad, "task {i} fails")));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("task {bad} fails"));
            assert_eq!(collect(4, |i| i), [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_stall_leaves_the_caller_alone_for_a_while() {
        let mut patience = Patience { stalls: 0, alone_until: None };
        let now = Instant::now();
        patience.waited(now, now);
        assert!(!patience.alone(Instant::now()));
        // In a long region some waiting is natural.
        let ago = |ms| now - Duration::from_millis(ms);
        patience.waited(ago(13), ago(3));
        assert!(!patience.alone(Instant::now()));
        patience.waited(ago(4), ago(3));
        assert!(patience.alone(Instant::now()));
        assert!(!patience.alone(Instant::now() + Patience::ALONE));
    }
}
