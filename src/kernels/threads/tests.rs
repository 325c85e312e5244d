//! The pool of threads, and the settings for the number of threads.

use super::*;

#[test]
fn every_task_runs_once_on_any_number_of_threads() {
    for threads in [1, 2, 4, 7] {
        set_num_threads(threads);
        for tasks in [0, 1, 2, 3, 16, 100] {
            for _ in 0..50 {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for_each(0, tasks, &|i| {
                    counts[i].fetch_add(1, SeqCst);
                });
                assert!(counts.iter().all(|c| c.load(SeqCst) == 1));
            }
            let mut data = vec![0; tasks];
            chunks(&mut data, 3, &|i, chunk| chunk.fill(i));
            assert!(data.iter().enumerate().all(|(i, &x)| x == i / 3));
        }
    }
}

/// Counts how often it is dropped.
struct Dropped<'a>(&'a AtomicUsize);
impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn each_item_is_handed_out_and_dropped_once() {
    for threads in [1, 3] {
        with_num_threads(threads, || {
            let counts: Vec<AtomicUsize> = (0..20).map(|_| AtomicUsize::new(0)).collect();
            each(1, counts.iter().map(Dropped), |item| assert_eq!(item.0.load(SeqCst), 0));
            assert!(counts.iter().all(|c| c.load(SeqCst) == 1));
            each(1, vec![(); 5], |()| ());
            each(1, Vec::<Dropped<'_>>::new(), |_| panic!("there is none"));
        });
    }
    // After a panic an item may be leaked, but it is never dropped twice.
    let counts: Vec<AtomicUsize> = (0..20).map(|_| AtomicUsize::new(0)).collect();
    let items = counts.iter().map(Dropped);
    let run = || with_num_threads(3, || each(1, items, |item| assert!(!std::ptr::eq(item.0, &counts[5]))));
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    assert!(counts[5].load(SeqCst) == 1 && counts.iter().all(|c| c.load(SeqCst) <= 1));
}

/// A pool for one test alone.
fn own_pool() -> &'static ThreadPool {
    Box::leak(Box::new(ThreadPool::new()))
}

/// Whether two tasks that wait for each other both finish in a region of this pool, which happens only if two threads
/// run at once; several trials, because the machine may be busy.
fn shares(pool: &'static ThreadPool) -> bool {
    (0..50).any(|_| {
        let (arrived, late, now) = (AtomicUsize::new(0), AtomicBool::new(false), Instant::now());
        pool.share(1, 2, 2, &|_| {
            arrived.fetch_add(1, SeqCst);
            while arrived.load(SeqCst) == 1 && !late.load(SeqCst) {
                late.store(now.elapsed() > Duration::from_millis(200), SeqCst);
                thread::yield_now();
            }
        });
        !late.load(SeqCst)
    })
}

#[test]
fn two_tasks_run_at_once() {
    assert!(shares(own_pool()), "no two tasks ran at once in 50 trials");
}

/// The other task outlasts the caller's by far more than [`SPIN`], so that the caller sleeps and must be woken.
#[test]
fn a_caller_that_sleeps_is_woken_when_all_is_done() {
    let pool = own_pool();
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
        pool.run(2, 2, &task).unwrap();
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
                    for_each(0, 5, &|_| {
                        for_each(0, 3, &|_| {
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
        let result = catch_unwind(|| for_each(0, 6, &|i| assert!(i != bad, "task {i} fails")));
        let message = *result.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(message, format!("task {bad} fails"));
        let mut after = [0; 4];
        chunks(&mut after, 1, &|i, one| one[0] = i);
        assert_eq!(after, [0, 1, 2, 3]);
    }
}

#[test]
fn a_pool_is_shared_after_a_panic_in_a_task() {
    let pool = own_pool();
    assert!(shares(pool));
    for bad in 0..4 {
        let task = |i| assert!(i != bad, "task {i} fails");
        let result = catch_unwind(AssertUnwindSafe(|| pool.share(2, 4, 2, &task)));
        assert_eq!(*result.unwrap_err().downcast::<String>().unwrap(), format!("task {bad} fails"));
    }
    assert!(shares(pool));
}

/// A panic payload that panics itself when it is dropped.
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_payload_that_panics_when_dropped_hangs_nothing() {
    let pool = own_pool();
    for _ in 0..5 {
        let arrived = AtomicUsize::new(0);
        let now = Instant::now();
        let task = |_| {
            arrived.fetch_add(1, SeqCst);
            while arrived.load(SeqCst) < 3 && now.elapsed() < Duration::from_millis(200) {
                thread::yield_now();
            }
            std::panic::panic_any(Bomb);
        };
        let payload = catch_unwind(AssertUnwindSafe(|| pool.share(1, 3, 3, &task))).unwrap_err();
        std::mem::forget(payload);
    }
    assert!(shares(pool));
}

#[test]
fn a_number_of_threads_for_this_thread_only() {
    let before = num_threads();
    let seen = with_num_threads(5, || {
        let other = thread::spawn(num_threads).join().unwrap();
        let inner = with_num_threads(1, num_threads);
        (num_threads(), other, inner, num_threads())
    });
    assert_eq!((seen.0, seen.2, seen.3), (5, 1, 5));
    assert_ne!(seen.1, 5);
    assert!(catch_unwind(|| with_num_threads(7, || panic!("inside"))).is_err());
    assert!(catch_unwind(|| with_num_threads(0, || ())).is_err());
    assert!(OWN_THREADS.get() == 0 && before > 0);
    assert_eq!(with_num_threads(usize::MAX, num_threads), MOST);
}

#[test]
fn threads_that_sleep_at_once_do_their_work() {
    assert_eq!(wait_policy(), WaitPolicy::Active);
    set_wait_policy(WaitPolicy::Passive);
    let shared = shares(own_pool());
    set_wait_policy(WaitPolicy::Active);
    assert!(shared);
    assert_eq!([None, Some("active"), Some("passive")].map(asked_policy), {
        [WaitPolicy::Active, WaitPolicy::Active, WaitPolicy::Passive]
    });
    assert!(catch_unwind(|| asked_policy(Some("idle"))).is_err());
}

#[test]
#[allow(unsafe_code)]
fn a_cut_array_has_no_part_beyond_its_end() {
    let mut data = [0; 5];
    let cut = Cut::new(&mut data);
    // SAFETY: the parts do not overlap.
    unsafe {
        cut.part(1, 2).fill(7);
        cut.chunk(1, 3).fill(8);
        assert!(cut.part(5, 0).is_empty() && cut.chunk(5, 1).is_empty());
        for (from, len) in [(4, 2), (6, 0), (1, usize::MAX)] {
            assert!(catch_unwind(AssertUnwindSafe(|| cut.part(from, len).len())).is_err());
        }
    }
    assert_eq!(data, [0, 7, 7, 8, 8]);
}
