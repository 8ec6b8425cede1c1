//! Server-side overload control: who is served when not all can be.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tollgate_core::load::random::hash_bytes;
use tollgate_core::load::shed::{Admission, Level, ShedConfig};

pub use tollgate_core::load::criticality::Criticality;

use crate::clock::{Clock, SystemClock, span};
use crate::concurrency::{ConcurrencyLimiter, LimitExceeded, Slot};
use crate::config::{ConfigError, Rolls, seed};
use crate::deadline::Deadline;
use crate::retry::previous_attempts;

/// The header that says how critical a call is. Whoever sends it is believed: see the part on trust of
/// [`LoadShedLayer`](crate::LoadShedLayer).
pub const CRITICALITY: &str = "x-criticality";

/// The criticality that `headers` name; without the header, or with an unknown name,
/// [`Criticality::Critical`].
#[must_use]
pub fn criticality(headers: &HeaderMap) -> Criticality {
    let named = headers.get(CRITICALITY).and_then(|value| value.to_str().ok());
    named.map_or_else(Criticality::default, Criticality::parse)
}

/// Sheds calls of a server that cannot serve all: by a limit on calls in flight with a short queue, and by an
/// admission level that follows the queue (DAGOR; Zhou et al., 2018): the least critical go first, and among
/// equals some tenants, if calls say theirs, rather than a part of everybody's calls. Clones share one state.
#[derive(Clone, Debug)]
pub struct LoadShed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: ConcurrencyLimiter,
    admission: Admission,
    settings: Settings,
    clock: Arc<dyn Clock>,
    rolls: Rolls,
}

#[derive(Clone, Debug)]
struct Settings {
    wait: Duration,
    tenant: Option<http::HeaderName>,
    retries_first: bool,
}

/// Builds a [`LoadShed`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct LoadShedBuilder {
    limit: ConcurrencyLimiter,
    config: ShedConfig,
    settings: Settings,
    clock: Arc<dyn Clock>,
}

/// How long a call waits for a place unless told otherwise: the interval of "Fail at Scale".
const WAIT: Duration = Duration::from_millis(100);

impl LoadShed {
    /// Sheds by `limit` and its queue: give it [`codel`](crate::concurrency::ConcurrencyBuilder::codel).
    pub fn builder(limit: ConcurrencyLimiter) -> LoadShedBuilder {
        let settings = Settings { wait: WAIT, tenant: None, retries_first: false };
        LoadShedBuilder { limit, config: ShedConfig::default(), settings, clock: Arc::new(SystemClock) }
    }

    /// A place for the call that `headers` describe: its criticality, its deadline, its tenant, whether it is
    /// a retry.
    ///
    /// # Errors
    /// [`LimitExceeded`] if it is shed.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<Slot, LimitExceeded> {
        let Inner { limit, admission, settings, clock, rolls } = &*self.0;
        let refused = || LimitExceeded::of(limit);
        let left = Deadline::of_headers(headers).map_or(Duration::MAX, |deadline| deadline.remaining());
        if left.is_zero() {
            return Err(refused());
        }
        let (class, start) = (self.class(headers), clock.now());
        let tenant = settings.tenant.as_ref().and_then(|name| headers.get(name));
        // without tenants a part of the calls: one level for all of a class would shed all of it at once
        let tenant = tenant.map_or_else(|| rolls.next().into(), |value| hash_bytes(value.as_bytes()));
        if !admission.admit(start, Level::new(class, tenant, start)) {
            return Err(refused());
        }
        let wait = settings.wait.min(left);
        let slot = limit.acquire_as(class, wait, left).await;
        // a full or controlled queue turns calls away after a short wait or none: those would hide the overload
        let waited = clock.now() - start;
        admission.queued(if slot.is_ok() { waited } else { waited.max(span(wait)) });
        slot
    }

    /// A retry is one class less critical than its first attempt, if retries are shed first.
    fn class(&self, headers: &HeaderMap) -> Criticality {
        let class = criticality(headers);
        if !self.0.settings.retries_first || previous_attempts(headers) == 0 {
            return class;
        }
        match class {
            Criticality::CriticalPlus => Criticality::Critical,
            Criticality::Critical => Criticality::SheddablePlus,
            Criticality::SheddablePlus | Criticality::Sheddable => Criticality::Sheddable,
        }
    }

    /// The limit that it sheds by.
    #[must_use]
    pub fn limit(&self) -> &ConcurrencyLimiter {
        &self.0.limit
    }

    /// How many of the 512 levels are admitted at present, from the most critical on.
    #[must_use]
    pub fn admitted_levels(&self) -> u32 {
        self.0.admission.admitted()
    }
}

impl LoadShedBuilder {
    /// How long a call waits for a place at most, unless its deadline is shorter. Default 100 ms; zero sheds
    /// at once.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.settings.wait = wait;
        self
    }

    /// The header that names a call's tenant, which has to be one that callers cannot choose (see
    /// [`LoadShedLayer`](crate::LoadShedLayer)): within a class, tenants are shed one after the other, in an
    /// order that changes every hour. Calls without it, and all calls by default, are shed at random.
    pub fn tenant_header(mut self, name: http::HeaderName) -> Self {
        self.settings.tenant = Some(name);
        self
    }

    /// Treats retries as one class less critical. Default: off.
    pub fn shed_retries_first(mut self) -> Self {
        self.settings.retries_first = true;
        self
    }

    /// A longer mean time in the queue is overload; a call that is shed from it counts as one that waited for
    /// as long as it may. Default 20 ms.
    pub fn overloaded_above(mut self, queuing: Duration) -> Self {
        self.config.queuing = span(queuing);
        self
    }

    /// Where it learns the time.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The shedder.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that makes no sense.
    pub fn build(self) -> Result<LoadShed, ConfigError> {
        let LoadShedBuilder { limit, config, settings, clock } = self;
        let admission = Admission::new(config, clock.now())?;
        Ok(LoadShed(Arc::new(Inner { limit, admission, settings, clock, rolls: Rolls::new(seed()) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn call(criticality: &'static str, timeout: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CRITICALITY, http::HeaderValue::from_static(criticality));
        if let Some(timeout) = timeout {
            headers.insert("grpc-timeout", http::HeaderValue::from_static(timeout));
        }
        headers
    }

    fn one_place(queue: u32) -> ConcurrencyLimiter {
        ConcurrencyLimiter::fixed(1).queue(queue).build().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_critical_call_takes_the_turn_of_a_less_critical_one() {
        let limit = one_place(1);
        let shed = LoadShed::builder(limit.clone()).build().unwrap();
        let held = limit.try_acquire().unwrap();
        let batch = call("sheddable", None);
        let mut batch = Box::pin(shed.admit(&batch));
        assert!(futures_util::poll!(batch.as_mut()).is_pending());
        let person = call("critical_plus", None);
        let mut person = Box::pin(shed.admit(&person));
        assert!(futures_util::poll!(person.as_mut()).is_pending());
        assert_eq!(batch.await.unwrap_err().limit, 1, "at once, not after its wait");
        drop(held);
        assert!(person.await.is_ok());
        assert_eq!(limit.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_its_caller() {
        let limit = one_place(10);
        let shed = LoadShed::builder(limit.clone()).wait(MS(500)).build().unwrap();
        let _held = limit.try_acquire().unwrap();
        let start = tokio::time::Instant::now();
        assert!(shed.admit(&call("critical", Some("30m"))).await.is_err());
        assert_eq!(start.elapsed(), MS(25), "with 5 ms for the way back");
        assert!(shed.admit(&call("critical", Some("0m"))).await.is_err());
        assert_eq!(start.elapsed(), MS(25));
        assert!(shed.admit(&call("critical", None)).await.is_err());
        assert_eq!(start.elapsed(), MS(525));
    }

    #[tokio::test(start_paused = true)]
    async fn long_queues_lower_the_level_so_that_the_least_critical_are_shed_first() {
        let limit = one_place(1_000);
        let shed = LoadShed::builder(limit.clone()).wait(MS(50)).build().unwrap();
        let _held = limit.try_acquire().unwrap();
        let classes = [call("sheddable", None), call("critical", None)];
        for _ in 0..200 {
            let calls = classes.each_ref().map(|headers| shed.admit(headers));
            futures_util::future::join_all(calls).await;
            tokio::time::advance(MS(50)).await;
        }
        assert!(shed.admitted_levels() < 512, "{}", shed.admitted_levels());
        let start = tokio::time::Instant::now();
        assert!(shed.admit(&classes[0]).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO, "a sheddable call does not even wait");
    }

    #[test]
    fn retries_can_be_shed_before_first_attempts() {
        let limit = one_place(1);
        let mut retry = call("critical", None);
        retry.insert("grpc-previous-rpc-attempts", 1.into());
        let plain = LoadShed::builder(limit.clone()).build().unwrap();
        let first = LoadShed::builder(limit).shed_retries_first().build().unwrap();
        assert_eq!(plain.class(&retry), Criticality::Critical);
        assert_eq!(first.class(&retry), Criticality::SheddablePlus);
        assert_eq!(first.class(&call("critical", None)), Criticality::Critical);
        assert_eq!(first.class(&HeaderMap::new()), Criticality::Critical);
    }
}
