//! Parts of one piece of work that run side by side on a few threads, and that may meet: then each waits for all
//! others, and they continue with what they found together.
//!
//! A meeting never waits for ever. A part that waits has a thread started for the parts that were not begun yet, and if
//! a part ends, for whatever reason, while others wait for it or before others come to a meeting, these get an error.

use std::{
    any::{Any, TypeId},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Scope},
};

use super::{
    lend::{Lent, lend},
    threads::{discard, for_each_of, spin_until, with_num_threads},
};
use crate::{
    Error, Result,
    sync::{Scoped, during, lock},
};

/// What the parts are doing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Phase {
    /// A forward pass; each part has a graph of its own.
    Forward,
    /// The backward passes through those graphs.
    Backward,
    /// A forward pass from which all parts together get one graph.
    Joint,
    /// The backward pass through that graph, on one thread: nothing can meet.
    Alone,
}

/// How many parts there are, and how they run.
#[derive(Clone, Copy)]
pub struct Plan {
    pub parts: usize,
    pub phase: Phase,
    /// How many threads run at the same time, unless more are needed for a meeting.
    pub threads: usize,
    /// How much there is to do, in any unit: whether threads pay is measured for each kind and amount.
    pub work: usize,
    /// Why all parts must run on the caller's thread, where they cannot meet; `None` if they need not.
    pub one_thread: Option<&'static str>,
}

/// Why parts failed: the first part that did so by itself, not because another one was missing at a meeting.
pub enum Failure {
    Error(usize, Error),
    Panic(usize, Box<dyn Any + Send>),
}

thread_local! {
    /// The part that this thread runs.
    static HERE: Scoped<Part> = const { Scoped::new() };
}

/// The part of the work that this thread runs now, if it is one.
pub fn here() -> Option<Part> {
    HERE.with(|here| if here.is_some() { here.with(|part| part.clone()) } else { None })
}

/// Runs `f`, in which nothing can meet.
pub fn alone<R>(f: impl FnOnce() -> R) -> R {
    let meeting = Arc::new(Meeting::new(Plan { parts: 1, phase: Phase::Alone, threads: 1, work: 0, one_thread: None }));
    lend(&mut |()| {}, |starter| during(&HERE, Part { meeting, index: 0, starter }, f).0)
}

/// The results of `f(0)`, …, `f(parts - 1)`, which use one thread each; and whether they met. All parts run, even if one
/// fails.
pub fn run<R: Send>(
    plan: Plan,
    f: &(dyn Fn(usize) -> Result<R> + Sync),
) -> std::result::Result<(Vec<R>, bool), Failure> {
    let crew = Crew {
        f,
        next: AtomicUsize::new(0),
        slots: (0..plan.parts).map(|_| Mutex::new(None)).collect(),
        meeting: Arc::new(Meeting::new(plan)),
    };
    thread::scope(|scope| {
        let threads = if plan.one_thread.is_some() { 1 } else { plan.threads.min(plan.parts) };
        // A wait for other parts blocks a thread of the pool at most until threads of our own have done them.
        for_each_of(run::<R> as fn(Plan, _) -> _ as usize ^ plan.phase as usize, plan.work, threads, &|_| {
            crew.work(scope)
        });
    });
    crew.results()
}

struct Crew<'a, R> {
    f: &'a (dyn Fn(usize) -> Result<R> + Sync),
    /// The first part that was not begun.
    next: AtomicUsize,
    slots: Vec<Mutex<Option<thread::Result<Result<R>>>>>,
    meeting: Arc<Meeting>,
}

impl<R: Send> Crew<'_, R> {
    fn start<'s>(&'s self, scope: &'s Scope<'s, '_>) -> std::io::Result<()> {
        thread::Builder::new().spawn_scoped(scope, move || self.work(scope)).map(drop)
    }

    /// Runs parts until all were begun.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut starter = |_: &mut ()| {
            if self.next.load(Ordering::Relaxed) >= self.slots.len() {
                return;
            }
            match self.meeting.plan.one_thread {
                Some(why) => self.meeting.fail(why.into()),
                None => {
                    if let Err(error) = self.start(scope) {
                        self.meeting.fail(format!("no thread could be started for another part: {error}"));
                    }
                }
            }
        };
        lend(&mut starter, |starter| {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                let Some(slot) = self.slots.get(i) else { return };
                let part = Part { meeting: self.meeting.clone(), index: i, starter: starter.clone() };
                let run = || with_num_threads(1, || during(&HERE, part, || (self.f)(i)).0);
                let done = catch_unwind(AssertUnwindSafe(run));
                self.meeting.leave(
                    i,
                    match &done {
                        Ok(Ok(_)) => Ending::Done,
                        Ok(Err(_)) => Ending::Error,
                        Err(_) => Ending::Panic,
                    },
                );
                *lock(slot) = Some(done);
            }
        });
    }

    fn results(self) -> std::result::Result<(Vec<R>, bool), Failure> {
        let state = lock(&self.meeting.state);
        let (mut results, mut failures) = (Vec::with_capacity(self.slots.len()), Vec::new());
        for (i, slot) in self.slots.iter().enumerate() {
            match lock(slot).take().expect("every part ran") {
                Ok(Ok(result)) => results.push(result),
                Ok(Err(error)) => failures.push((state.told[i], Failure::Error(i, error))),
                Err(payload) => failures.push((state.told[i], Failure::Panic(i, payload))),
            }
        }
        let first = failures.iter().position(|(told, _)| !told).unwrap_or(0);
        if failures.is_empty() {
            return Ok((results, state.round > 0));
        }
        let (_, failure) = failures.swap_remove(first);
        for (_, other) in failures {
            if let Failure::Panic(_, payload) = other {
                discard(payload);
            }
        }
        Err(failure)
    }
}

/// What a meeting is about, on which all parts must agree: the operation, and an object.
pub type About = (&'static str, usize);

/// One of the parts of a piece of work, on the thread that runs it.
#[derive(Clone)]
pub struct Part {
    meeting: Arc<Meeting>,
    index: usize,
    /// Starts a thread for the parts that were not begun.
    starter: Rc<Lent<()>>,
}

struct Meeting {
    plan: Plan,
    state: Mutex<State>,
    changed: Condvar,
    /// How many meetings have ended or failed, for those that look often.
    ended: AtomicUsize,
}

type Value = Box<dyn Any + Send>;
type Found = Arc<dyn Any + Send + Sync>;

struct State {
    /// The number of meetings that have ended.
    round: usize,
    /// What the present meeting is about, and the type of what is brought to it.
    about: Option<(About, TypeId)>,
    brought: Vec<Option<Value>>,
    arrived: usize,
    /// What the last meeting found. All parts come to the next one before this is replaced.
    found: Option<Found>,
    /// A part that has ended.
    over: Option<(usize, Ending)>,
    failed: Option<String>,
    /// Which parts were told that a meeting failed.
    told: Vec<bool>,
}

enum Arrival {
    /// With the values of all parts, in order.
    Last(Vec<Value>),
    /// At this meeting, before others.
    Earlier(usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Done,
    Error,
    Panic,
}

impl Part {
    /// The part's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What the parts are doing.
    pub fn phase(&self) -> Phase {
        self.meeting.plan.phase
    }

    /// Waits for all parts; the last one combines what they bring, in the order of the parts.
    ///
    /// # Errors
    /// If not all parts come to this meeting, or `combine` fails.
    pub fn meet<V: Send + 'static, R: Send + Sync + 'static>(
        &self,
        about: About,
        value: V,
        combine: impl FnOnce(Vec<V>) -> Result<R>,
    ) -> Result<Arc<R>> {
        let found = match self.arrive(about, TypeId::of::<V>(), Box::new(value))? {
            Arrival::Last(values) => {
                let of = |value: Value| *value.downcast::<V>().expect("its type is compared");
                let found = combine(values.into_iter().map(of).collect()).map(|found| Arc::new(found) as Found);
                self.conclude(found)?
            }
            Arrival::Earlier(round) => self.wait(about.0, round)?,
        };
        Ok(found.downcast().expect("each meeting finds one type"))
    }

    /// Brings a value.
    fn arrive(&self, about: About, kind: TypeId, value: Value) -> Result<Arrival> {
        let mut state = lock(&self.meeting.state);
        if self.meeting.plan.phase == Phase::Alone {
            state.fail("it cannot meet the other parts of the batch in a backward pass of all of them at once".into());
        }
        if let Some(over) = state.over {
            state.fail(self.meeting.missing(over));
        }
        if *state.about.get_or_insert((about, kind)) != (about, kind) {
            state.fail("the parts of the batch do not call the same layers in the same order".into());
        }
        if state.failed.is_some() {
            self.meeting.announce();
            return Err(state.tell(self.index, about.0));
        }
        state.brought[self.index] = Some(value);
        state.arrived += 1;
        if state.arrived < state.brought.len() {
            return Ok(Arrival::Earlier(state.round));
        }
        let values = state.brought.iter_mut().map(|value| value.take().expect("all have arrived"));
        Ok(Arrival::Last(values.collect()))
    }

    /// Ends the meeting for all parts.
    fn conclude(&self, found: Result<Found>) -> Result<Found> {
        let mut state = lock(&self.meeting.state);
        match &found {
            Ok(found) => {
                state.found = Some(found.clone());
                (state.round, state.arrived, state.about) = (state.round + 1, 0, None);
            }
            Err(error) => state.fail(error.to_string()),
        }
        self.meeting.announce();
        found
    }

    /// Waits for the end of this meeting.
    fn wait(&self, op: &str, round: usize) -> Result<Found> {
        self.starter.call(&mut ());
        if self.meeting.plan.parts <= self.meeting.plan.threads {
            spin_until(|| self.meeting.ended.load(Ordering::Acquire) > round);
        }
        let mut state = lock(&self.meeting.state);
        while state.round == round && state.failed.is_none() {
            state = self.meeting.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.round == round {
            return Err(state.tell(self.index, op));
        }
        Ok(state.found.clone().expect("a meeting has ended"))
    }
}

impl Meeting {
    fn new(plan: Plan) -> Self {
        let state = State {
            round: 0,
            about: None,
            brought: (0..plan.parts).map(|_| None).collect(),
            arrived: 0,
            found: None,
            over: None,
            failed: None,
            told: vec![false; plan.parts],
        };
        Meeting { plan, state: Mutex::new(state), changed: Condvar::new(), ended: AtomicUsize::new(0) }
    }

    /// Wakes those who wait.
    fn announce(&self) {
        self.ended.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    fn fail(&self, why: String) {
        lock(&self.state).fail(why);
        self.announce();
    }

    fn leave(&self, part: usize, ending: Ending) {
        let mut state = lock(&self.state);
        if state.over.is_none_or(|(_, before)| before == Ending::Done) {
            state.over = Some((part, ending));
        }
        if state.arrived > 0 {
            state.fail(self.missing((part, ending)));
            self.announce();
        }
    }

    fn missing(&self, (part, ending): (usize, Ending)) -> String {
        let how = match ending {
            Ending::Done => "without calling this layer as often as another part",
            Ending::Error => "with an error",
            Ending::Panic => "with a panic",
        };
        format!("it needs all parts of the batch, and part {part} of {} ended {how}", self.plan.parts)
    }
}

impl State {
    fn fail(&mut self, why: String) {
        self.failed.get_or_insert(why);
    }

    fn tell(&mut self, part: usize, op: &str) -> Error {
        self.told[part] = true;
        Error::state(op, self.failed.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
