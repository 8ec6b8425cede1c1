//! What a circuit tells its owner, and what an operator tells a circuit.

use smallvec::SmallVec;

use super::super::{Counts, Epoch, FleetState, ReporterId, Share};
use super::tally::Tally;
use crate::time::{Span, Time};

/// Outcomes behind a verdict, after the cap on the weight of each reporter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// Outcomes.
    pub judged: u64,
    /// Of them, those of the kind that the rule counts.
    pub bad: u64,
    /// Reporters with outcomes.
    pub active: u64,
    /// Reporters that are themselves over the threshold.
    pub over: u64,
}

impl From<Tally> for Evidence {
    fn from(tally: Tally) -> Evidence {
        Evidence { judged: tally.volume, bad: tally.bad, active: tally.active, over: tally.over }
    }
}

/// Why a circuit changed its state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Failures over the long window.
    FailureRate(Evidence),
    /// Failures over the short window.
    ShortFailureRate(Evidence),
    /// Slow calls over the long window.
    SlowRate(Evidence),
    /// The wait in the open state is over.
    WaitOver,
    /// Enough probes of the round were good.
    ProbesPassed,
    /// Enough probes of the round were bad.
    ProbesFailed,
    /// The round had no verdict in time: no evidence, so the next wait is no longer than this one's.
    NoVerdict,
    /// Failures during the ramp.
    RampFailed(Evidence),
    /// Everything passed for one window, and was well.
    Recovered,
    /// An operator said so.
    Manual,
    /// What an operator said has run out.
    OverrideExpired,
    /// The instances hold it from an earlier owner.
    Adopted,
    /// The mode of the configuration changed.
    Configured,
}

/// What happened to a circuit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A new state, and a new epoch: every instance of the key should hear a directive at once.
    Changed {
        /// When.
        at: Time,
        /// Before.
        from: FleetState,
        /// Now.
        to: FleetState,
        /// Why.
        reason: Reason,
        /// Of the new state.
        epoch: Epoch,
    },
    /// Another share passes: instances should hear a directive soon.
    AdmitChanged {
        /// The new share.
        admit: Share,
    },
    /// Permits wait for these reporters: they should hear a directive at once.
    PermitsAssigned {
        /// In no order, each once.
        to: SmallVec<[ReporterId; 10]>,
    },
    /// One reporter fails and the others do not: look at the caller, not at the target.
    LocalFault {
        /// Who.
        reporter: ReporterId,
        /// Its outcomes in the window.
        judged: u64,
        /// Its failures in the window.
        failures: u64,
    },
    /// A reporter with a local fault fails no longer, or is silent.
    LocalFaultOver {
        /// Who.
        reporter: ReporterId,
    },
    /// In [`FleetState::MetricsOnly`]: the circuit would open now.
    WouldTrip {
        /// Why.
        reason: Reason,
    },
    /// In [`FleetState::MetricsOnly`]: the evidence for opening is gone.
    WouldRecover,
}

/// A state set by hand.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OverrideMode {
    /// Nothing passes.
    ForcedOpen,
    /// The fleet breaker is off.
    Disabled,
    /// The fleet breaker only tells what it would do.
    MetricsOnly,
}

/// What an operator says, for how long, who, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// The state.
    pub mode: OverrideMode,
    /// For how long, 1 us to 7 days: a forgotten override is an outage.
    pub ttl: Span,
    /// Who, 1 to 256 bytes.
    pub actor: String,
    /// Why, 1 to 1 024 bytes.
    pub reason: String,
}

/// An override that makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OverrideError {
    /// The time to live.
    #[error("override: ttl is {0}, must be 1us to 604800s")]
    Ttl(Span),
    /// Nobody, or too long a name.
    #[error("override: actor has {0} bytes, must have 1 to 256")]
    Actor(usize),
    /// No reason, or too long a one.
    #[error("override: reason has {0} bytes, must have 1 to 1024")]
    Reason(usize),
}

const LONGEST_OVERRIDE: Span = Span::from_secs(7 * 86_400);

impl Override {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn check(&self) -> Result<(), OverrideError> {
        if self.ttl.is_zero() || self.ttl > LONGEST_OVERRIDE {
            return Err(OverrideError::Ttl(self.ttl));
        }
        if self.actor.is_empty() || self.actor.len() > 256 {
            return Err(OverrideError::Actor(self.actor.len()));
        }
        if self.reason.is_empty() || self.reason.len() > 1_024 {
            return Err(OverrideError::Reason(self.reason.len()));
        }
        Ok(())
    }
}

/// An override in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActiveOverride {
    /// What was said.
    pub set: Override,
    /// When it ends.
    pub until: Time,
}

/// What a circuit has counted since it began; none of it decides anything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Outcomes of the epochs in force when they were reported.
    pub counts: Counts,
    /// Outcomes that arrived after their epoch had ended.
    pub late: Counts,
    /// Deltas that arrived again, and were not counted again.
    pub duplicates: u64,
    /// Changes to [`FleetState::Open`].
    pub openings: u64,
    /// Rounds of probes.
    pub rounds: u64,
    /// Permits handed out.
    pub permits: u64,
    /// Permits that nobody reported in time.
    pub permits_expired: u64,
    /// Reporters forgotten to make room for others.
    pub reporters_forgotten: u64,
}

/// A circuit as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// State.
    pub state: FleetState,
    /// Epoch of the state.
    pub epoch: Epoch,
    /// When the state began.
    pub since: Time,
    /// Why; none before the first change.
    pub reason: Option<Reason>,
    /// Whether the owner still listens for what earlier owners said.
    pub adopting: bool,
    /// In [`FleetState::MetricsOnly`]: whether the circuit would be open.
    pub would_open: bool,
    /// Share that passes.
    pub admit: Share,
    /// Until the next probes (open) or the end of the override.
    pub remaining: Span,
    /// Openings in a row.
    pub attempt: u32,
    /// Outcomes in the long window, after the caps.
    pub window: Evidence,
    /// Of them, slow ones, after the same caps.
    pub slow: u64,
    /// Permits out, unreported and alive.
    pub permits_out: u32,
    /// Good and bad probes of the round.
    pub probes: (u32, u32),
    /// Reporters remembered.
    pub reporters: usize,
    /// Median latency that the target is known for.
    pub median: Option<Span>,
    /// Override in force.
    pub set: Option<ActiveOverride>,
    /// Counted since the circuit began.
    pub totals: Totals,
}
