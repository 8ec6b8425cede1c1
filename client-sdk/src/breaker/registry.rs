//! One breaker per target, made when it is first asked for, in bounded memory.
//!
//! Scope a breaker to what fails together: a shard or an endpoint rather than a whole service. One dead shard
//! of many never trips a breaker over all of them, or trips it for all (Brooker, "Will circuit breakers
//! solve my problems?", 2022).

use std::sync::Arc;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{CircuitBreaker, CircuitBreakerConfig, EventListener};
use crate::clock::{Clock, SystemClock};
use crate::config::{ConfigError, seed};

/// Breakers by key. Clones are handles to the same registry.
///
/// Above its capacity, the breaker that was not asked for the longest is forgotten: it starts anew, closed,
/// when somebody asks again. Handles that are held stay valid.
#[derive(Clone, Debug)]
pub struct CircuitBreakerRegistry {
    breakers: Cache<Arc<str>, CircuitBreaker, foldhash::quality::RandomState>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    default: CircuitBreakerConfig,
    patterns: Vec<(String, CircuitBreakerConfig)>,
    clock: Arc<dyn Clock>,
    listeners: Vec<Arc<dyn EventListener>>,
}

/// Sets up a [`CircuitBreakerRegistry`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build()"]
pub struct RegistryBuilder {
    capacity: u64,
    shared: Shared,
}

/// Breakers that a registry keeps unless told otherwise.
const CAPACITY: u64 = 10_000;

impl CircuitBreakerRegistry {
    /// Sets up a registry of at most 10 000 breakers.
    pub fn builder() -> RegistryBuilder {
        let shared = Shared {
            default: CircuitBreakerConfig::default(),
            patterns: Vec::new(),
            clock: Arc::new(SystemClock),
            listeners: Vec::new(),
        };
        RegistryBuilder { capacity: CAPACITY, shared }
    }

    /// The breaker of `key`, which is also its name: the same for everybody who asks for it.
    #[must_use]
    pub fn get(&self, key: &str) -> CircuitBreaker {
        if let Some(breaker) = self.breakers.get(key) {
            return breaker;
        }
        self.breakers.get_with(key.into(), || self.shared.make(key))
    }

    /// The breaker of `key`, if somebody has asked for it already.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<CircuitBreaker> {
        self.breakers.get(key)
    }

    /// How many breakers it keeps, about.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.breakers.run_pending_tasks();
        self.breakers.entry_count()
    }

    /// Whether it keeps none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every breaker that it keeps.
    pub fn iter(&self) -> impl Iterator<Item = CircuitBreaker> + '_ {
        self.breakers.iter().map(|(_, breaker)| breaker)
    }
}

impl Shared {
    fn config(&self, key: &str) -> &CircuitBreakerConfig {
        let fits = self.patterns.iter().find(|(pattern, _)| matches(pattern, key));
        fits.map_or(&self.default, |(_, config)| config)
    }

    #[expect(clippy::expect_used, reason = "every configuration was compiled when the registry was built")]
    fn make(&self, key: &str) -> CircuitBreaker {
        let mut builder = CircuitBreaker::builder(key).config(self.config(key).clone());
        builder.clock = self.clock.clone();
        builder.listeners.clone_from(&self.listeners);
        builder.build().expect("a configuration that was checked")
    }
}

impl RegistryBuilder {
    /// Most breakers that it keeps. Default 10 000.
    pub fn capacity(mut self, breakers: u64) -> Self {
        self.capacity = breakers;
        self
    }

    /// How breakers work that no pattern fits.
    pub fn default_config(mut self, config: CircuitBreakerConfig) -> Self {
        self.shared.default = config;
        self
    }

    /// How breakers work whose key fits `pattern`, in which `*` stands for any text. The first that fits
    /// counts.
    pub fn config(mut self, pattern: impl Into<String>, config: CircuitBreakerConfig) -> Self {
        self.shared.patterns.push((pattern.into(), config));
        self
    }

    /// Tells `listener` of every change of every breaker.
    pub fn listener(mut self, listener: impl EventListener) -> Self {
        self.shared.listeners.push(Arc::new(listener));
        self
    }

    /// Where the breakers learn the time.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.shared.clock = Arc::new(clock);
        self
    }

    /// The registry.
    ///
    /// # Errors
    /// [`ConfigError`] for a capacity of zero, or names the first field of any configuration that makes no
    /// sense.
    pub fn build(self) -> Result<CircuitBreakerRegistry, ConfigError> {
        let RegistryBuilder { capacity, shared } = self;
        if capacity == 0 {
            return Err(ConfigError::range("capacity", "at least 1", &capacity));
        }
        for config in std::iter::once(&shared.default).chain(shared.patterns.iter().map(|(_, config)| config))
        {
            CircuitBreaker::builder("check").config(config.clone()).seed(seed()).build()?;
        }
        // LRU: an admission policy by frequency would turn new keys away, and their breakers would never trip
        let breakers = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(foldhash::quality::RandomState::default());
        Ok(CircuitBreakerRegistry { breakers, shared: Arc::new(shared) })
    }
}

/// Whether `key` fits `pattern`, in which `*` stands for any text. The shortest text that each `*` can stand
/// for is tried first; only the last one is ever tried again, which is enough.
fn matches(pattern: &str, key: &str) -> bool {
    let Some((prefix, mut rest)) = pattern.split_once('*') else { return pattern == key };
    let Some(mut key) = key.strip_prefix(prefix) else { return false };
    while let Some((middle, after)) = rest.split_once('*') {
        let Some(at) = key.find(middle) else { return false };
        key = &key[at + middle.len()..];
        rest = after;
    }
    key.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn patterns() {
        for (pattern, key, fits) in [
            ("pay/*", "pay/eu", true),
            ("pay/*", "pay", false),
            ("*", "", true),
            ("*/shard-1", "orders/shard-1", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, key), fits, "{pattern} {key}");
        }
    }

    #[test]
    fn ten_thousand_keys_have_their_own_breakers_in_bounded_memory() {
        let registry = CircuitBreakerRegistry::builder().capacity(10_000).build().unwrap();
        for key in 0..10_000 {
            drop(registry.get(&key.to_string()));
        }
        for key in 0..10 {
            for _ in 0..10 {
                registry.get(&key.to_string()).try_acquire().unwrap().failure();
            }
        }
        assert_eq!(registry.len(), 10_000);
        assert_eq!(registry.iter().filter(|breaker| breaker.state() == State::Open).count(), 10);
        for key in 10_000..30_000 {
            drop(registry.get(&key.to_string()));
        }
        assert_eq!(registry.len(), 10_000);
        assert_eq!(registry.get("0").state(), State::Closed);
    }

    #[test]
    fn the_first_pattern_that_fits_counts() {
        let once = CircuitBreakerConfig { consecutive_failures: Some(1), ..Default::default() };
        let registry = CircuitBreakerRegistry::builder()
            .config("pay/*", once)
            .config("*", CircuitBreakerConfig::default())
            .build()
            .unwrap();
        for (key, state) in [("pay/eu", State::Open), ("other", State::Closed)] {
            registry.get(key).try_acquire().unwrap().failure();
            assert_eq!(registry.get(key).state(), state, "{key}");
        }
    }

    #[test]
    fn a_bad_configuration_is_an_error_of_the_registry() {
        let bad = CircuitBreakerConfig { minimum_calls: 0, ..Default::default() };
        let error = CircuitBreakerRegistry::builder().config("x", bad).build().unwrap_err();
        assert_eq!(error.to_string(), "circuit breaker: minimum_calls must be at least 1, not 0");
        assert!(CircuitBreakerRegistry::builder().capacity(0).build().is_err());
    }
}
