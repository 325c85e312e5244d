use super::*;

const ABOUT: About = ("sum", 0);

fn plan(parts: usize, threads: usize) -> Plan {
    Plan { parts, phase: Phase::Forward, threads, work: 0, one_thread: None }
}

/// The sum over all parts of what each of them brings.
fn sum(about: About, value: f64) -> Result<f64> {
    let part = here().expect("inside a part");
    Ok(*part.meet(about, value, |values| Ok(values.into_iter().sum::<f64>()))?)
}

fn failure<R: Send>(plan: Plan, f: &(dyn Fn(usize) -> Result<R> + Sync)) -> (usize, String) {
    match run(plan, f) {
        Ok(_) => panic!("expected a failure"),
        Err(Failure::Error(i, error)) => (i, error.to_string()),
        Err(Failure::Panic(i, payload)) => (i, payload.downcast_ref::<&str>().unwrap().to_string()),
    }
}

#[test]
fn parts_meet_on_any_number_of_threads() {
    for (parts, threads) in [(1, 1), (2, 1), (3, 2), (8, 1), (8, 3), (8, 16), (40, 2)] {
        let f = |i: usize| (0..5).try_fold(i as f64, |x, _| sum(ABOUT, x / 3.));
        let Ok((found, met)) = run(plan(parts, threads), &f) else { panic!("{parts} parts on {threads} threads") };
        assert!(met && found.len() == parts && found.iter().all(|x| x.to_bits() == found[0].to_bits()));
    }
    assert!(run(plan(3, 2), &|i| Ok(i)).is_ok_and(|(found, met)| found == [0, 1, 2] && !met));
    assert!(here().is_none());
}

#[test]
fn whoever_waits_in_vain_is_told_and_whoever_is_the_cause_is_reported() {
    for threads in [1, 2, 8] {
        let f = |i: usize| {
            sum(ABOUT, 1.)?;
            if i == 2 { Err(Error::value("third", "on purpose")) } else { sum(ABOUT, 1.) }
        };
        assert_eq!(failure(plan(4, threads), &f), (2, "third: on purpose".into()));
        let f = |i: usize| {
            assert_ne!(i, 1, "on purpose");
            sum(ABOUT, 1.)
        };
        assert!(matches!(run(plan(4, threads), &f), Err(Failure::Panic(1, _))));
        // A part that calls less often, other things, or other types.
        let (part, error) = failure(plan(4, threads), &|i| if i == 3 { Ok(0.) } else { sum(ABOUT, 1.) });
        assert!(part < 3 && error.contains("part 3 of 4 ended without calling this layer as often"), "{error}");
        let (_, error) = failure(plan(4, threads), &|i| sum(("sum", i / 3), 1.));
        assert!(error.contains("do not call the same layers in the same order"), "{error}");
        let of = |part: Part, i: usize| match i {
            0 => part.meet(ABOUT, 1u8, |_| Ok(())),
            _ => part.meet(ABOUT, 1u16, |_| Ok(())),
        };
        let (_, error) = failure(plan(2, threads), &|i| of(here().unwrap(), i).map(|_| ()));
        assert!(error.contains("do not call the same layers"), "{error}");
        // One that goes on although it was told.
        let f = |i: usize| {
            if i == 0 {
                return Err(Error::value("first", "on purpose"));
            }
            let told = (0..3).filter(|_| sum(ABOUT, 1.).is_err()).count();
            assert_eq!(told, 3);
            Ok(told)
        };
        assert_eq!(failure(plan(4, threads), &f), (0, "first: on purpose".into()));
    }
}

#[test]
fn what_combines_may_fail() {
    for threads in [1, 4] {
        let f = |_: usize| here().unwrap().meet(ABOUT, (), |_| -> Result<()> { Err(Error::value("all", "nothing")) });
        assert_eq!(failure(plan(4, threads), &|i| f(i).map(|_| ())).1, "all: nothing");
        let f = |_: usize| here().unwrap().meet(ABOUT, (), |_| -> Result<()> { panic!("while the others wait") });
        assert_eq!(failure(plan(4, threads), &|i| f(i).map(|_| ())).1, "while the others wait");
    }
}

#[test]
fn parts_of_one_thread_cannot_meet() {
    let one = Plan { one_thread: Some("all are here"), ..plan(3, 8) };
    let (part, error) = failure(one, &|_| sum(ABOUT, 1.));
    assert_eq!((part, &error[..]), (0, "sum: all are here"));
    let caller = thread::current().id();
    assert!(run(one, &|_| Ok(thread::current().id() == caller)).is_ok_and(|(here, _)| here == [true; 3]));
    assert!(alone(|| sum(ABOUT, 1.)).unwrap_err().to_string().contains("cannot meet the other parts"));
}

/// A part in which other parts run meets its own again afterwards.
#[test]
fn parts_within_parts() {
    let f = |i: usize| {
        let Ok((inner, _)) = run(plan(2, 2), &|k| sum(ABOUT, (10 * i + k) as f64)) else { panic!("inside") };
        sum(ABOUT, inner[0])
    };
    assert!(run(plan(3, 2), &f).is_ok_and(|(found, _)| found == [63.; 3]));
}

/// No more threads than asked for, as long as nothing waits.
#[test]
fn threads_are_started_as_needed() {
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let f = |_: usize| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(std::time::Duration::from_millis(1));
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    assert!(run(plan(12, 2), &f).is_ok());
    assert!(most.into_inner() <= 2);
}
