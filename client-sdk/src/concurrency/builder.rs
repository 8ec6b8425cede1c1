//! How a concurrency limit is set up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_core::load::algorithm::{
    AimdConfig, AlgorithmConfig, Bounds, Gradient2Config, GuardConfig, VegasConfig,
};
use tollgate_core::load::concurrency::{Limiter, LimiterConfig, WindowConfig};
use tollgate_core::load::queue::{QueueConfig, ShedQueue};

use super::{ConcurrencyLimiter, Inner};
use crate::clock::{Clock, SystemClock, span};
use crate::config::{ConfigError, seed};

/// Builds a [`ConcurrencyLimiter`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct ConcurrencyBuilder {
    name: Arc<str>,
    config: LimiterConfig,
    queue: QueueConfig,
    clock: Arc<dyn Clock>,
}

/// How long a call may wait for a place at most, unless CoDel is set up.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl ConcurrencyBuilder {
    pub(super) fn fixed(limit: u32) -> Self {
        let bounds = Bounds { min: limit.min(1), initial: limit, max: limit };
        ConcurrencyBuilder::new(AlgorithmConfig::Fixed, bounds)
    }

    pub(super) fn aimd() -> Self {
        ConcurrencyBuilder::new(AlgorithmConfig::Aimd(AimdConfig::default()), Bounds::default())
    }

    pub(super) fn vegas() -> Self {
        ConcurrencyBuilder::new(AlgorithmConfig::Vegas(VegasConfig::default()), Bounds::default())
    }

    pub(super) fn gradient2() -> Self {
        ConcurrencyBuilder::new(AlgorithmConfig::Gradient2(Gradient2Config::default()), Bounds::default())
    }

    fn new(algorithm: AlgorithmConfig, bounds: Bounds) -> Self {
        let (longest, seed) = (span(LONGEST_WAIT), seed());
        ConcurrencyBuilder {
            name: "concurrency".into(),
            config: LimiterConfig { algorithm, bounds, seed, ..LimiterConfig::default() },
            queue: QueueConfig { target: longest, interval: longest, ..QueueConfig::default() },
            clock: Arc::new(SystemClock),
        }
    }

    /// Its name, for logs and metrics.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Where the limit begins. Default 20.
    pub fn initial(mut self, calls: u32) -> Self {
        self.config.bounds.initial = calls;
        self
    }

    /// Least limit. Default 1: more keeps a target of heavy calls overloaded.
    pub fn min(mut self, calls: u32) -> Self {
        self.config.bounds.min = calls;
        self
    }

    /// Largest limit, up to 1 000 000. Default 1000.
    pub fn max(mut self, calls: u32) -> Self {
        self.config.bounds.max = calls;
        self.config.bounds.initial = self.config.bounds.initial.min(calls);
        self
    }

    /// The limit is set anew after each `length`, but not before `samples` calls. Default 1 s, 10.
    pub fn window(mut self, length: Duration, samples: u32) -> Self {
        self.config.window = WindowConfig { length: span(length), samples, ..self.config.window };
        self
    }

    /// Refuses growth that brings no throughput. Default: off.
    pub fn throughput_guard(mut self) -> Self {
        self.config.guard = Some(GuardConfig::default());
        self
    }

    /// Most calls that wait for a place, `1..=1_000_000`. Default 1000.
    pub fn queue(mut self, capacity: u32) -> Self {
        self.queue.capacity = capacity;
        self
    }

    /// Controlled delay (Maurer, "Fail at Scale", 2015): a call waits at most `interval`; once the queue has
    /// not been empty for an `interval`, at most `target`, and the newest go first. Usual: 5 ms, 100 ms.
    pub fn codel(mut self, target: Duration, interval: Duration) -> Self {
        self.queue.target = span(target);
        self.queue.interval = span(interval);
        self
    }

    /// Where it learns the time.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The limit.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that makes no sense.
    pub fn build(self) -> Result<ConcurrencyLimiter, ConfigError> {
        let ConcurrencyBuilder { name, config, queue, clock } = self;
        let core = Limiter::new(&config, clock.now())?;
        let queue = Mutex::new(ShedQueue::new(queue, clock.now())?);
        Ok(ConcurrencyLimiter(Arc::new(Inner { name, core, clock, queue, waiting: 0.into() })))
    }
}
