//! What is played.

use tollgate_core::breaker::fleet::{FleetConfig, FleetConfigError, FleetMode, FleetSettings, Share};
use tollgate_core::breaker::{Config, ConfigError, Forget, HalfOpen, Ratio, Slow, Wait};
use tollgate_core::time::{Span, Time};

/// Calls longer than this are slow, where "slow" is configured.
pub const SLOW: Span = Span::from_millis(100);
/// A call is given up after this.
pub const TIMEOUT: Span = Span::SECOND;
/// When the outage begins, in seconds.
pub const OUTAGE_AT: u64 = 20;

/// Who may refuse calls.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Policy {
    /// Nobody.
    None,
    /// A local breaker per client, with jitter and growing waits: the baseline to beat.
    Local,
    /// The same local breakers, and the fleet's circuit above them.
    Fleet,
}

impl Policy {
    /// As it is called in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Policy::None => "none",
            Policy::Local => "local",
            Policy::Fleet => "fleet",
        }
    }
}

/// How the backend fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// It swallows every call.
    Total,
    /// This share of the calls fails at once.
    Partial(f64),
    /// Every answer takes 600 ms longer.
    Slow,
}

/// How the backend comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// Share of the capacity at first.
    pub cold: f64,
    /// Seconds until all of it is there; the way is linear.
    pub secs: u64,
}

impl Warmup {
    /// All at once.
    pub const NONE: Warmup = Warmup { cold: 1.0, secs: 0 };
    /// 20 % to 100 % in 20 s.
    pub const EASY: Warmup = Warmup { cold: 0.2, secs: 20 };
    /// 10 % to 100 % in 60 s: cold caches, a compiler that warms up.
    pub const HARD: Warmup = Warmup { cold: 0.1, secs: 60 };
}

/// What becomes of the owner of the circuit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OwnerFate {
    /// It lives.
    Steady,
    /// It fails so many times, at random instants from 2 s before the outage to 30 s after it; each time
    /// another owner takes over a second later.
    FailsOver(u32),
    /// It was never there.
    Absent,
    /// It fails for good in the middle of the outage.
    Dies,
}

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// Who may refuse.
    pub policy: Policy,
    /// Instances.
    pub clients: usize,
    /// Calls per second of all of them.
    pub load: f64,
    /// Calls per second that the backend can serve.
    pub capacity: f64,
    /// Calls that may wait for it.
    pub queue: usize,
    /// How it fails.
    pub failure: Failure,
    /// For how many seconds.
    pub outage: u64,
    /// How it comes back.
    pub warmup: Warmup,
    /// Share of the messages between clients and owner that is lost, each way.
    pub loss: f64,
    /// What becomes of the owner.
    pub owner: OwnerFate,
    /// Whether one more reporter lies as loudly as it can.
    pub poisoned: bool,
    /// Attempts per call; the next follows about 100 ms after a failure.
    pub attempts: u32,
    /// Of all chance.
    pub seed: u64,
}

impl Default for Scenario {
    /// 1 000 calls per second of 100 clients; 30 s of total outage; the easy way back.
    fn default() -> Scenario {
        Scenario {
            policy: Policy::Fleet,
            clients: 100,
            load: 1_000.0,
            capacity: 1_250.0,
            queue: 2_500,
            failure: Failure::Total,
            outage: 30,
            warmup: Warmup::EASY,
            loss: 0.0,
            owner: OwnerFate::Steady,
            poisoned: false,
            attempts: 1,
            seed: 1,
        }
    }
}

impl Scenario {
    /// When the outage begins.
    #[must_use]
    pub fn outage_from(&self) -> Time {
        Time::EPOCH + Span::from_secs(OUTAGE_AT)
    }

    /// When it ends.
    #[must_use]
    pub fn outage_until(&self) -> Time {
        self.outage_from() + Span::from_secs(self.outage)
    }

    /// Seconds after the outage over which the recovery is measured.
    #[must_use]
    pub fn recovery_secs(&self) -> u64 {
        (2 * self.warmup.secs).max(40)
    }

    /// When the play ends.
    #[must_use]
    pub fn end(&self) -> Time {
        self.outage_until() + Span::from_secs(self.recovery_secs() + 20)
    }

    /// The fleet's circuit: the defaults, enforced; slow calls open it where the outage is a slow one.
    ///
    /// # Errors
    /// None, as long as the defaults are within their ranges.
    pub fn fleet_config(&self) -> Result<FleetConfig, FleetConfigError> {
        let mut settings = FleetSettings { mode: FleetMode::Enforce, ..FleetSettings::default() };
        if self.failure == Failure::Slow {
            (settings.slow_after, settings.slow_rate) = (Some(SLOW), Some(Share::percent(80)));
        }
        FleetConfig::new(settings)
    }

    /// The local breakers: 50 % of at least 10 calls in 10 s, 5 probes, 5 s growing by half up to 30 s,
    /// give or take a half.
    ///
    /// # Errors
    /// None, as long as these values are within their ranges.
    pub fn local_config(&self) -> Result<Config, ConfigError> {
        let slow = Slow { duration: SLOW, rate: Ratio::percent(80)? };
        Ok(Config {
            minimum_calls: 10,
            consecutive: None,
            slow: (self.failure == Failure::Slow).then_some(slow),
            half_open: HalfOpen { permit_ttl: TIMEOUT + Span::SECOND, ..HalfOpen::default() },
            wait: Wait { cap: Span::from_secs(30), forget: Forget::OnClose, ..Wait::default() },
            ..Config::default()
        })
    }
}
