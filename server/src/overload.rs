//! What a worker does when it has more to do than it can: it sheds the least critical checks first.
//!
//! A worker is one thread, and what it has to do waits in its runtime's queue. A timer that fires late waited in
//! the same queue, so its delay is the queue's: nothing has to be measured at each call. Which checks go is
//! decided by [`tollgate_core::load::shed`] (after DAGOR; Zhou et al., 2018). Of equal checks a random part goes.
//!
//! What costs something is begun by the first sign of trouble: until then a check costs one read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tollgate_core::load::OutOfRange;
use tollgate_core::load::criticality::Criticality;
use tollgate_core::load::shed::{Admission, Level, ShedConfig};
use tollgate_core::time::{Span, Time};

use crate::clock::{Clock, Steady};

/// How often a worker looks how late it is.
const LOOK: Duration = Duration::from_millis(20);
/// How long a level is kept.
const WINDOW: Span = Span::from_millis(100);
/// Checks from one look to the next from which a worker can be late because of them. With fewer, something else
/// on the machine is at fault, and shedding would not help.
const ENOUGH: u32 = 20;
/// After so long without delay all checks are admitted again without a look.
const CALM: Duration = Duration::from_secs(5);
/// All levels of [`Admission::admitted`].
const ALL_LEVELS: u32 = 512;

/// The workers of one server.
#[derive(Debug, Default)]
pub struct Overload {
    workers: Vec<Arc<Worker>>,
    given: AtomicUsize,
}

/// What metrics show.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OverloadFigures {
    /// Checks that were shed, by class: as [`Criticality::index`].
    pub shed: [u64; 4],
    /// Workers that shed at present.
    pub shedding: u64,
}

#[derive(Debug)]
struct Worker {
    /// Half of this is a sign of trouble.
    queue_delay: Duration,
    clock: Steady,
    troubled: AtomicBool,
    admission: Admission,
    /// Checks since the last look.
    checks: AtomicU32,
    rolls: AtomicU64,
    shed: [AtomicU64; 4],
}

/// One worker's gate. Clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct Gate(Option<Arc<Worker>>);

impl Overload {
    /// `workers` that shed when what they have to do waits for longer than `queue_delay` on average; zero never
    /// sheds.
    ///
    /// # Errors
    /// `queue_delay` is neither zero nor in 1 ms to 10 s.
    pub fn new(queue_delay: Duration, workers: usize) -> Result<Overload, OutOfRange> {
        if queue_delay.is_zero() {
            return Ok(Overload::default());
        }
        let workers =
            (0..workers).map(|_| Worker::new(queue_delay).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Overload { workers, given: AtomicUsize::new(0) })
    }

    /// The next worker's gate.
    #[must_use]
    pub fn gate(&self) -> Gate {
        let place = self.given.fetch_add(1, Relaxed);
        Gate(self.workers.get(place).cloned())
    }

    /// What metrics show.
    #[must_use]
    pub fn figures(&self) -> OverloadFigures {
        let mut figures = OverloadFigures::default();
        for worker in &self.workers {
            for (sum, shed) in figures.shed.iter_mut().zip(&worker.shed) {
                *sum += shed.load(Relaxed);
            }
            figures.shedding += u64::from(worker.is_shedding());
        }
        figures
    }

    /// Tells `tell` when the first worker begins to shed (true), and when the last one has ended (false); for as
    /// long as it is polled.
    pub async fn follow(&self, tell: impl Fn(bool)) {
        let mut known = false;
        let mut beats = tokio::time::interval(Duration::from_secs(1));
        while !self.workers.is_empty() {
            beats.tick().await;
            let now = self.workers.iter().any(|worker| worker.is_shedding());
            if now != known {
                known = now;
                tell(now);
            }
        }
    }
}

impl Worker {
    fn new(queue_delay: Duration) -> Result<Worker, OutOfRange> {
        let clock = Steady::new(Time::EPOCH);
        let config = ShedConfig { queuing: span(queue_delay), window: WINDOW, ..ShedConfig::default() };
        Ok(Worker {
            queue_delay,
            clock,
            troubled: AtomicBool::new(false),
            admission: Admission::new(config, clock.now())?,
            checks: AtomicU32::new(0),
            rolls: AtomicU64::new(0),
            shed: Default::default(),
        })
    }

    fn is_shedding(&self) -> bool {
        self.troubled.load(Relaxed) && self.admission.admitted() < ALL_LEVELS
    }

    #[cold]
    fn admits(&self, class: Criticality) -> bool {
        self.checks.fetch_add(1, Relaxed);
        let now = self.clock.now();
        // a part of the calls: one level for all of a class would shed all of it at once
        let level = Level::new(class, self.rolls.fetch_add(1, Relaxed), now);
        let admitted = self.admission.admit(now, level);
        if !admitted {
            self.shed[usize::from(class.index())].fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Looks at how late this is. Returns whether that is a sign of trouble.
    fn look(&self, late: Duration) -> bool {
        let busy = self.checks.swap(0, Relaxed) >= ENOUGH;
        // what is late for other reasons is not made better by fewer checks
        self.admission.queued(if busy { span(late) } else { Span::ZERO });
        let trouble = late * 2 >= self.queue_delay;
        if trouble {
            self.troubled.store(true, Relaxed);
        }
        trouble || self.admission.admitted() < ALL_LEVELS
    }
}

impl Gate {
    /// Whether to take on a check of `class`; counts it if not.
    #[inline]
    #[must_use]
    pub fn admits(&self, class: Criticality) -> bool {
        !self.is_troubled() || self.0.as_ref().is_none_or(|worker| worker.admits(class))
    }

    /// Whether it matters how critical a check is.
    #[inline]
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.0.as_ref().is_some_and(|worker| worker.troubled.load(Relaxed))
    }

    /// Looks at how late this worker is, for as long as it is polled, which has to be by the worker itself.
    pub async fn watch(self) {
        let Some(worker) = self.0 else { return };
        let mut calm_since = Instant::now();
        loop {
            let due = Instant::now() + LOOK;
            sleep_until(due).await;
            let now = Instant::now();
            if worker.look(now - due) {
                calm_since = now;
            } else if now - calm_since >= CALM {
                worker.troubled.store(false, Relaxed);
            }
        }
    }
}

fn span(duration: Duration) -> Span {
    Span::from_wide(duration.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A look every 20 ms, each `late`, with `checks` of each class in between; how many of each were admitted.
    async fn run(worker: &Worker, looks: u32, late: Duration, checks: u32) -> [u32; 4] {
        let mut admitted = [0; 4];
        for _ in 0..looks {
            worker.look(late);
            for class in (0..checks).flat_map(|_| Criticality::ALL) {
                admitted[usize::from(class.index())] += u32::from(worker.admits(class));
            }
            tokio::time::advance(LOOK).await;
        }
        admitted
    }

    fn gate() -> (Overload, Arc<Worker>) {
        let overload = Overload::new(MS(50), 1).unwrap();
        let worker = overload.gate().0.unwrap();
        (overload, worker)
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_critical_go_first_and_come_back_last() {
        let (overload, worker) = gate();
        run(&worker, 100, MS(80), 25).await;
        assert_eq!(overload.figures().shedding, 1);
        let [sheddable, plus, critical, most] = run(&worker, 5, MS(80), 200).await;
        assert!(sheddable < 50, "{sheddable}");
        assert!(sheddable <= plus && plus <= critical && critical <= most, "{plus} {critical} {most}");
        assert_eq!(most, 1_000, "the most critical are not shed before all others are");
        let shed = overload.figures().shed;
        assert!(shed[0] > 1_000 && shed[3] == 0, "{shed:?}");
        run(&worker, 10_000, MS(0), 25).await;
        assert_eq!((overload.figures().shedding, worker.admission.admitted()), (0, ALL_LEVELS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_late_without_much_to_do_sheds_nothing() {
        let (overload, worker) = gate();
        let admitted = run(&worker, 500, MS(200), 4).await;
        assert_eq!((admitted, overload.figures().shed), ([2_000; 4], [0; 4]));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_counted_before_the_first_trouble() {
        let overload = Overload::new(MS(50), 1).unwrap();
        let gate = overload.gate();
        let watch = tokio::spawn(gate.clone().watch());
        tokio::time::sleep(MS(1_000)).await;
        assert!(gate.admits(Criticality::Sheddable) && !gate.is_troubled());
        assert_eq!(gate.0.as_ref().unwrap().checks.load(Relaxed), 0);
        // the clock jumps, as it does when the worker is busy with something else
        tokio::time::advance(MS(100)).await;
        tokio::time::sleep(MS(1)).await;
        assert!(gate.is_troubled());
        tokio::time::sleep(MS(6_000)).await;
        assert!(!gate.is_troubled(), "and calms down");
        watch.abort();
    }

    #[test]
    fn zero_never_sheds_and_other_values_have_a_range() {
        assert!(!Overload::new(Duration::ZERO, 4).unwrap().gate().is_troubled());
        assert!(Overload::new(Duration::from_micros(10), 4).is_err());
        assert!(Overload::new(Duration::from_secs(11), 4).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_told_when_it_begins_and_when_it_ends() {
        let (overload, worker) = gate();
        let told = std::sync::Mutex::new(Vec::new());
        let follow = overload.follow(|shedding| told.lock().unwrap().push(shedding));
        let trouble = async {
            worker.troubled.store(true, Relaxed);
            run(&worker, 200, MS(80), 25).await;
            run(&worker, 10_000, MS(0), 25).await;
            tokio::time::sleep(MS(2_000)).await;
        };
        tokio::select! { () = follow => {}, () = trouble => {} }
        assert_eq!(*told.lock().unwrap(), [true, false]);
    }
}
