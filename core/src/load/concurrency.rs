//! Adaptive concurrency: how many calls to a target may be in flight at once.

mod samples;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::algorithm::{Algorithm, AlgorithmConfig, Bounds, Guard, GuardConfig, Load, Sample};
use super::ratio::Ratio;
use super::{OutOfRange, within};
use crate::time::{Span, Time};
use samples::{Samples, Window};

/// What a [`Limiter`] is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimiterConfig {
    /// Between what the limit moves.
    pub bounds: Bounds,
    /// How it moves. Default Gradient2.
    pub algorithm: AlgorithmConfig,
    /// What the algorithm is fed with.
    pub window: WindowConfig,
    /// Refuses growth that brings no throughput. Default none.
    pub guard: Option<GuardConfig>,
    /// Kinds of calls with a guaranteed share of the limit: shares of together at most 1. Default none.
    pub partitions: Vec<PartitionConfig>,
    /// Spreads the probes of many clients: a random number, any.
    pub seed: u64,
}

/// What the algorithm is fed with: the mean of a window of calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WindowConfig {
    /// Length of a window: `10ms..=60s`. Default 1 s.
    pub length: Span,
    /// Fewest calls; a window goes on until it has them: `1..=10_000`. Default 10.
    pub samples: u32,
    /// Shorter calls are not counted: `0s..=1s`. Default 100 us.
    pub min_rtt: Span,
    /// The share of calls that may be dropped before the window counts as dropped: `0..=0.5`. Default 0.01.
    pub tolerated_drops: Ratio,
}

impl Default for WindowConfig {
    fn default() -> WindowConfig {
        WindowConfig {
            length: Span::SECOND,
            samples: 10,
            min_rtt: Span::from_micros(100),
            tolerated_drops: Ratio::from_percent(1),
        }
    }
}

impl WindowConfig {
    fn check(&self) -> Result<(), OutOfRange> {
        within("window.length", self.length, Span::from_millis(10)..=Span::from_secs(60))?;
        within("window.samples", self.samples, 1..=10_000)?;
        within("window.min_rtt", self.min_rtt, Span::ZERO..=Span::SECOND)?;
        within("window.tolerated_drops", self.tolerated_drops, Ratio::ZERO..=Ratio::from_percent(50))
    }
}

/// A kind of calls that has a part of the limit to itself when the limit is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionConfig {
    /// What it is called.
    pub name: String,
    /// Its part of the limit, at least one call: above `0`, at most `1`.
    pub share: Ratio,
}

/// One of the partitions of a [`Limiter`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionId(usize);

/// The right to one call in flight. Give it back with [`Limiter::release`], to the limiter that it is from:
/// a slot that is only dropped counts as in flight for ever.
#[derive(Debug)]
#[must_use = "a slot counts as in flight until it is released"]
pub struct Slot {
    started: Time,
    in_flight: u32,
    partition: Option<PartitionId>,
}

/// There is no room for another call.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{limit} calls are in flight")]
pub struct Full {
    /// The limit that was reached, in calls.
    pub limit: u32,
}

/// How a call ended, as far as it tells something about load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was answered: its latency counts.
    Done,
    /// It timed out or was refused for load.
    Dropped,
    /// It failed quickly or was given up by the caller: its latency says nothing.
    Ignored,
}

/// How many calls to one target may be in flight, found by watching their latency. For many threads.
#[derive(Debug)]
pub struct Limiter {
    limit: AtomicU32,
    in_flight: AtomicU32,
    partitions: Box<[Partition]>,
    window: WindowConfig,
    samples: Samples,
    engine: Mutex<Engine>,
}

#[derive(Debug)]
struct Partition {
    name: String,
    share: Ratio,
    in_flight: AtomicU32,
}

/// What learns, once a window.
#[derive(Debug)]
struct Engine {
    algorithm: Algorithm,
    guard: Option<Guard>,
}

impl Limiter {
    /// A limiter at [`Bounds::initial`] whose first window begins at `now`.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: &LimiterConfig, now: Time) -> Result<Limiter, OutOfRange> {
        config.window.check()?;
        let algorithm = Algorithm::new(&config.algorithm, config.bounds, config.seed)?;
        let guard = config.guard.map(Guard::new).transpose()?;
        Ok(Limiter {
            limit: AtomicU32::new(algorithm.limit()),
            in_flight: AtomicU32::new(0),
            partitions: partitions(&config.partitions)?,
            window: config.window,
            samples: Samples::new(now, config.window.length),
            engine: Mutex::new(Engine { algorithm, guard }),
        })
    }

    /// A slot for a call that starts at `now`.
    ///
    /// # Errors
    /// [`Full`] if as many calls as the limit are in flight.
    pub fn acquire(&self, now: Time) -> Result<Slot, Full> {
        let limit = self.limit();
        match self.enter(limit) {
            Some(in_flight) => Ok(Slot { started: now, in_flight, partition: None }),
            None => Err(Full { limit }),
        }
    }

    /// A slot for a call of `partition` that starts at `now`. Below the limit every call gets one. At the
    /// limit a partition still gets its share, so that all together can exceed the limit by the shares.
    ///
    /// # Errors
    /// [`Full`] if as many calls as the limit are in flight, and as many of `partition` as its share. A
    /// partition of another limiter that this one does not have is served as a call without partition.
    pub fn acquire_for(&self, now: Time, partition: PartitionId) -> Result<Slot, Full> {
        let Some(own) = self.partitions.get(partition.0) else { return self.acquire(now) };
        let limit = self.limit();
        if let Some(in_flight) = self.enter(limit) {
            own.in_flight.fetch_add(1, Ordering::Relaxed);
            return Ok(Slot { started: now, in_flight, partition: Some(partition) });
        }
        let share = u32::try_from(own.share.of(u64::from(limit))).unwrap_or(limit).max(1);
        if increment_below(&own.in_flight, share).is_none() {
            return Err(Full { limit });
        }
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Slot { started: now, in_flight, partition: Some(partition) })
    }

    fn enter(&self, limit: u32) -> Option<u32> {
        increment_below(&self.in_flight, limit)
    }

    /// Gives `slot` back at `now`, with what became of the call.
    #[expect(clippy::needless_pass_by_value, reason = "a slot can be given back only once")]
    pub fn release(&self, slot: Slot, now: Time, outcome: Outcome) {
        let Slot { started, in_flight, partition } = slot;
        if let Some(own) = partition.and_then(|id| self.partitions.get(id.0)) {
            own.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let rtt = now - started;
        let count = match outcome {
            Outcome::Done if rtt >= self.window.min_rtt => self.samples.done(rtt, in_flight),
            Outcome::Dropped => self.samples.dropped(rtt, in_flight),
            Outcome::Done | Outcome::Ignored => return,
        };
        if count >= self.window.samples
            && let Some(window) = self.samples.close(now, self.window.length)
        {
            self.learn(&window);
        }
    }

    #[cold]
    fn learn(&self, window: &Window) {
        let sample = Sample {
            rtt: window.mean_rtt(),
            in_flight: window.peak,
            dropped: u64::from(window.drops) > self.window.tolerated_drops.of(window.count()),
        };
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = engine.learn(&sample, window);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit that holds, in calls.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The partition called `name`.
    #[must_use]
    pub fn partition(&self, name: &str) -> Option<PartitionId> {
        self.partitions.iter().position(|partition| partition.name == name).map(PartitionId)
    }
}

impl Engine {
    fn learn(&mut self, sample: &Sample, window: &Window) -> u32 {
        let before = self.algorithm.limit();
        let after = self.algorithm.update(sample);
        let Some(guard) = &mut self.guard else { return after };
        guard.observe(Load {
            in_flight: f64::from(window.peak),
            throughput: window.throughput(),
            rtt: sample.rtt.as_micros() as f64,
        });
        if after > before && guard.saturated() {
            // one step back, so that the next windows show whether fewer calls do the same work
            return self.algorithm.set(before - before.checked_ilog10().unwrap_or(0).max(1));
        }
        after
    }
}

/// One more, if there are fewer than `limit`; returns how many there are then.
fn increment_below(counter: &AtomicU32, limit: u32) -> Option<u32> {
    let more = |count| (count < limit).then_some(count + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|before| before + 1)
}

fn partitions(configs: &[PartitionConfig]) -> Result<Box<[Partition]>, OutOfRange> {
    let mut sum = Ratio::ZERO;
    for (index, config) in configs.iter().enumerate() {
        within("partitions.share", config.share, Ratio::from_millionths(1)..=Ratio::ONE)?;
        sum = Ratio::from_millionths(sum.millionths().saturating_add(config.share.millionths()));
        if configs[..index].iter().any(|other| other.name == config.name) {
            return Err(OutOfRange::new("partitions.name", &config.name, "each name once"));
        }
    }
    within("the sum of partitions.share", sum, Ratio::ZERO..=Ratio::ONE)?;
    let build = |config: &PartitionConfig| Partition {
        name: config.name.clone(),
        share: config.share,
        in_flight: AtomicU32::new(0),
    };
    Ok(configs.iter().map(build).collect())
}

#[cfg(test)]
mod tests;
