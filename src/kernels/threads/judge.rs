//! Decides whether a region is split among threads, from how long similar regions took recently, alone and together.
//!
//! Threads can cost more than they gain. If another process, or another guest of the host, occupies a core, a thread
//! stops in the middle of a task, and the caller waits until it continues: milliseconds, for a region of microseconds.
//! How often that happens depends on the machine and the moment, not on the region. So two things are measured:
//!
//! - per *kind* of region (the same loop over the same amount of work): the time alone and the time together, without
//!   outliers. A kind that gains nothing from threads, even undisturbed, runs alone.
//! - over all kinds: the time that regions took together, including stalls, compared with the time that the same
//!   regions take alone. If it is not clearly shorter, all regions run alone, until a trial shows that it is. The time
//!   that trials may lose is a small share of the time between them.

/// Identifies a kind of region: the same loop over the same amount of work.
pub type Key = u64;

/// Number of kinds that are remembered; a kind replaces an older one with the same remainder.
const KINDS: usize = 512;
/// Minimum number of regions of a kind between two measurements alone. A prime, so that it does not coincide with the
/// period of a training loop.
const ALONE_EVERY: u32 = 67;
/// Number of regions of a kind that gains nothing between two attempts together.
const TOGETHER_EVERY: u32 = 131;
/// Number of regions of a kind that are measured together before the kind is judged.
const FEW: u32 = 4;
/// From this time together on there is no gain, as a share of the time alone.
const NO_GAIN: f32 = 0.97;
/// Up to this time together, over all kinds and including stalls, threads pay, as a share of the time alone. On an idle
/// machine they take far less; if another process occupies a core now and then, about as much.
const WORTH: f32 = 0.85;
/// Microseconds from which on a region that gains runs together in every mode: a stall is short in comparison.
const LONG: f32 = 10_000.;
/// Microseconds (measured as the time alone) over which gain and loss are averaged.
const WINDOW: f32 = 64_000.;
/// Microseconds (measured as the time alone) before threads are given up.
const EVIDENCE: f32 = 4_000.;
/// Microseconds (measured as the time alone) before a trial counts as a success.
const TRIAL: f32 = 10_000.;
/// Microseconds of loss that end a trial.
const LOST: f32 = 1_500.;
/// The time before the first trial, as a multiple of what was lost, and the bounds within which that loss is taken. Each
/// trial that fails doubles the time before the next one, this number of times at most: what a trial costs besides its
/// loss (threads that wake up, caches that they fill) cannot be measured.
const PAUSE: f32 = 64.;
const LOSS: [f32; 2] = [1_000., 4_000.];
const DOUBLINGS: i32 = 2;

/// The time that a kind of region takes in one of the two ways, in microseconds; 0 if it was not measured yet.
#[derive(Clone, Copy)]
struct Time {
    /// Undisturbed: shorter times count at once and longer ones slowly, since the first regions of a program use fresh
    /// memory and threads that are just starting.
    usual: f32,
    /// The average; a single stall counts as at most twice the average.
    mean: f32,
}

impl Time {
    const NONE: Time = Time { usual: 0., mean: 0. };

    fn known(self) -> bool {
        self.mean > 0.
    }

    fn add(&mut self, micros: f32) {
        let micros = micros.max(0.01);
        if !self.known() {
            *self = Time { usual: micros, mean: micros };
        }
        let step = micros.min(2. * self.usual) - self.usual;
        self.usual += if step < 0. { step / 2. } else { step / 16. };
        self.mean += (micros.min(2. * self.mean) - self.mean) / 8.;
    }
}

#[derive(Clone, Copy)]
struct RegionKind {
    key: Key,
    alone: Time,
    together: Time,
    /// Number of regions since the kind last ran the other way.
    turn: u32,
    tried: u32,
}

impl RegionKind {
    const NONE: RegionKind = RegionKind { key: 0, alone: Time::NONE, together: Time::NONE, turn: 0, tried: 0 };

    /// Whether it gains even with stalls. A stall may have made it look so, so the time alone counts only until there
    /// is a time together.
    fn long(&self) -> bool {
        if self.together.known() { self.together.usual > LONG && self.gains() } else { self.alone.usual > 2. * LONG }
    }

    fn gains(&self) -> bool {
        !self.alone.known() || self.tried < FEW || self.together.usual < NO_GAIN * self.alone.usual
    }

    /// Number of regions between two measurements alone: if many threads gain much, one region alone costs as much as
    /// many together.
    fn alone_every(&self) -> u32 {
        let gain = self.alone.usual / self.together.usual.max(0.01);
        (ALONE_EVERY as f32 * (gain / 2.).max(1.)) as u32
    }

    /// Whether the next region should run together, if threads are in use at all.
    fn together(&mut self) -> bool {
        self.turn += 1;
        // A new kind may have been measured badly.
        let (every, most) = if self.gains() {
            (self.alone_every(), true)
        } else {
            (TOGETHER_EVERY.min(self.tried.saturating_mul(4)), false)
        };
        let other = self.turn >= every || (!self.alone.known() && self.tried >= 2);
        if other {
            self.turn = 0;
        }
        most != other
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Together,
    /// Until this number of microseconds was spent alone.
    Alone(f32),
    Trial,
}

/// What is remembered of regions, and the mode that follows from it.
pub struct Judge {
    kinds: [RegionKind; KINDS],
    mode: Mode,
    /// Microseconds that recent regions took together, including stalls.
    took: f32,
    /// Microseconds that the same regions take alone.
    alone: f32,
    /// Number of trials that failed one after another.
    failed: i32,
}

impl Judge {
    pub const fn new() -> Judge {
        Judge { kinds: [RegionKind::NONE; KINDS], mode: Mode::Together, took: 0., alone: 0., failed: 0 }
    }

    fn kind(&mut self, key: Key) -> &mut RegionKind {
        let kind = &mut self.kinds[(key % KINDS as u64) as usize];
        if kind.key != key {
            *kind = RegionKind { key, ..RegionKind::NONE };
        }
        kind
    }

    /// Whether the next region, of this kind, should run together.
    pub fn together(&mut self, key: Key) -> bool {
        let mode = self.mode;
        let kind = self.kind(key);
        if kind.long() {
            // Do not measure it alone without need: that takes as long as all threads together.
            let doubted = matches!(mode, Mode::Alone(_)) && kind.together.usual < 2. * LONG;
            return if kind.alone.known() { kind.together() } else { !doubted };
        }
        match mode {
            Mode::Alone(left) if left > 0. || !kind.alone.known() => return false,
            Mode::Alone(_) => self.begin(Mode::Trial),
            _ => (),
        }
        self.kind(key).together()
    }

    /// Records a region that ran alone.
    pub fn ran_alone(&mut self, key: Key, micros: f32) {
        self.kind(key).alone.add(micros);
        if let Mode::Alone(left) = &mut self.mode {
            *left -= micros;
        }
    }

    /// Records a region that ran together.
    pub fn ran_together(&mut self, key: Key, micros: f32) {
        let kind = self.kind(key);
        kind.together.add(micros);
        kind.tried = kind.tried.saturating_add(1);
        if kind.long() || !kind.alone.known() {
            return;
        }
        let alone = kind.alone.mean;
        self.took += micros;
        self.alone += alone;
        let lost = self.took - self.alone;
        let worth = self.took < WORTH * self.alone;
        match self.mode {
            Mode::Together if self.alone > EVIDENCE && !worth => self.give_up(lost),
            Mode::Together if self.alone > WINDOW => (self.took, self.alone) = (self.took / 2., self.alone / 2.),
            Mode::Trial if lost > LOST => self.give_up(lost),
            Mode::Trial if self.alone > TRIAL && worth => self.mode = Mode::Together,
            Mode::Trial if self.alone > TRIAL => self.give_up(lost),
            _ => (),
        }
    }

    fn give_up(&mut self, lost: f32) {
        self.failed = if self.mode == Mode::Trial { (self.failed + 1).min(DOUBLINGS) } else { 0 };
        self.begin(Mode::Alone(PAUSE * 2f32.powi(self.failed) * lost.clamp(LOSS[0], LOSS[1])));
    }

    fn begin(&mut self, mode: Mode) {
        (self.mode, self.took, self.alone) = (mode, 0., 0.);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simulated machine, with times in microseconds: regions of three kinds in turn, and another process that
    /// occupies one core at times.
    struct Machine {
        judge: Judge,
        now: f32,
        /// What the regions would have taken alone.
        alone: f32,
        turn: usize,
    }

    /// Microseconds alone and together.
    const REGIONS: [(f32, f32); 3] = [(40., 26.), (700., 380.), (8., 9.5)];

    impl Machine {
        fn new() -> Machine {
            Machine { judge: Judge::new(), now: 0., alone: 0., turn: 0 }
        }

        /// Runs regions for this number of microseconds; `stalled(from, to)` is how long a thread is stopped in
        /// between. Returns the speedup compared with running alone.
        fn run(&mut self, micros: f32, stalled: impl Fn(f32, f32) -> f32) -> f32 {
            let (start, before) = (self.now, self.alone);
            while self.now - start < micros {
                let (alone, together) = REGIONS[self.turn % 3];
                let key = 1 + (self.turn % 3) as Key;
                self.turn += 1;
                let took = if self.judge.together(key) {
                    let took = together + stalled(self.now, self.now + together);
                    self.judge.ran_together(key, took);
                    took
                } else {
                    self.judge.ran_alone(key, alone);
                    alone
                };
                self.now += took;
                self.alone += alone;
            }
            (self.alone - before) / (self.now - start)
        }
    }

    fn undisturbed(_: f32, _: f32) -> f32 {
        0.
    }

    /// A core that another process occupies for every second period of 4 milliseconds.
    fn busy(from: f32, to: f32) -> f32 {
        let slice = |t: f32| (t / 4_000.) as u64;
        if slice(from) % 2 == 1 || slice(to) % 2 == 1 { (slice(to) + 1) as f32 * 4_000. - to } else { 0. }
    }

    #[test]
    fn an_idle_machine_is_used() {
        let mut machine = Machine::new();
        machine.run(100_000., undisturbed);
        let best = REGIONS.iter().map(|r| r.0).sum::<f32>() / REGIONS.iter().map(|r| r.0.min(r.1)).sum::<f32>();
        let gain = machine.run(1e6, undisturbed);
        assert!(gain > 0.97 * best, "{gain} of {best}");
    }

    #[test]
    fn short_stalls_of_a_shared_host_do_not_stop_it() {
        let mut machine = Machine::new();
        // 300 microseconds, a hundred times a second.
        let host = |from: f32, to: f32| if (from / 1e4) as u64 != (to / 1e4) as u64 { 300. } else { 0. };
        machine.run(100_000., host);
        let gain = machine.run(1e6, host);
        assert!(gain > 1.6, "{gain}");
    }

    #[test]
    fn beside_a_busy_process_it_costs_little() {
        let mut machine = Machine::new();
        machine.run(200_000., undisturbed);
        machine.run(200_000., busy);
        let gain = machine.run(3e6, busy);
        assert!(gain > 0.97, "{gain}");
        // And it recovers once the other process is gone.
        machine.run(500_000., undisturbed);
        let gain = machine.run(1e6, undisturbed);
        assert!(gain > 1.6, "{gain}");
    }

    #[test]
    fn a_kind_that_gains_nothing_runs_alone() {
        let mut judge = Judge::new();
        let mut together = 0;
        for _ in 0..10_000 {
            if judge.together(7) {
                judge.ran_together(7, 10.);
                together += 1;
            } else {
                judge.ran_alone(7, 10.);
            }
        }
        assert!(together < 200, "{together}");
        assert_eq!(judge.mode, Mode::Together, "the others may still gain");
    }

    /// How many of `regions` regions of one kind run together.
    fn together(judge: &mut Judge, regions: usize, alone: f32, together: f32) -> usize {
        let one = |_: &usize| {
            let shared = judge.together(3);
            if shared {
                judge.ran_together(3, together)
            } else {
                judge.ran_alone(3, alone)
            }
            shared
        };
        (0..regions).filter(one).count()
    }

    #[test]
    fn long_regions_are_always_shared() {
        let mut judge = Judge::new();
        for round in 0..20 {
            assert!(judge.together(3));
            judge.ran_together(3, if round % 2 == 0 { 20_000. } else { 60_000. });
        }
        judge.begin(Mode::Alone(f32::INFINITY));
        assert_eq!(together(&mut judge, 1_000, 60_000., 30_000.), 1_000);
    }

    #[test]
    fn a_stall_does_not_make_a_region_long() {
        // The stall hits a region that runs alone; later ones take less than what counts as long, but more than half of it.
        let mut judge = Judge::new();
        judge.begin(Mode::Alone(f32::INFINITY));
        judge.ran_alone(3, 30_000.);
        assert!(together(&mut judge, 200, 8_000., 9_000.) < 5);
        // The stall hits a region that runs together, and there is another one in each region after it.
        let mut judge = Judge::new();
        judge.ran_together(3, 30_000.);
        judge.begin(Mode::Alone(f32::INFINITY));
        assert!(together(&mut judge, 200, 11_000., 13_500.) < 20);
    }

    #[test]
    fn where_many_threads_gain_much_measuring_alone_costs_little() {
        let regions = 10_000;
        let together = together(&mut Judge::new(), regions, 640., 10.);
        assert!((regions - together) as f32 * 640. < 0.05 * regions as f32 * 10., "{together}");
    }

    /// The mode after regions that each take `micros` together and 1,000 alone, first through the pause, if there is one.
    fn next_mode(judge: &mut Judge, micros: f32) -> Mode {
        judge.ran_alone(3, 1_000.);
        while matches!(judge.mode, Mode::Alone(_)) {
            if !judge.together(3) {
                judge.ran_alone(3, 1_000.);
            }
        }
        let mode = judge.mode;
        while judge.mode == mode {
            judge.ran_together(3, micros);
        }
        judge.mode
    }

    #[test]
    fn trials_that_fail_double_the_pause_and_a_success_resets_it() {
        let mut judge = Judge::new();
        // Each loss is more than the most that counts.
        let pauses = |factors: &[f32]| factors.iter().map(|f| Mode::Alone(f * PAUSE * LOSS[1])).collect::<Vec<_>>();
        let failures = |judge: &mut Judge, n: usize| (0..n).map(|_| next_mode(judge, 9_000.)).collect::<Vec<_>>();
        assert_eq!(failures(&mut judge, 5), pauses(&[1., 2., 4., 4., 4.]));
        assert_eq!(next_mode(&mut judge, 100.), Mode::Together);
        assert_eq!(failures(&mut judge, 3), pauses(&[1., 2., 4.]));
    }

    #[test]
    fn the_number_of_regions_has_no_end() {
        let mut kind = RegionKind { tried: u32::MAX, ..RegionKind::NONE };
        kind.alone.add(1.);
        kind.together.add(1.);
        assert!((1..TOGETHER_EVERY).all(|_| !kind.together()) && kind.together());
    }
}
