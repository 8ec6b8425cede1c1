//! What instances and the owner of a circuit tell each other, as plain values.
//!
//! Every time on the wire is relative: no clock of a client is ever compared with a clock of a server.

use smallvec::SmallVec;

use crate::time::Span;

/// A share of the traffic in basis points, `0..=10_000`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Share(u16);

impl Share {
    /// Nothing.
    pub const NONE: Share = Share(0);
    /// Everything.
    pub const ALL: Share = Share(10_000);

    /// `basis_points` hundredths of a percent; more than 10 000 become [`Share::ALL`].
    #[must_use]
    pub const fn from_basis_points(basis_points: u16) -> Share {
        Share(if basis_points > 10_000 { 10_000 } else { basis_points })
    }

    /// Whole percents; more than 100 become [`Share::ALL`].
    #[must_use]
    pub const fn percent(percent: u16) -> Share {
        Share::from_basis_points(percent.saturating_mul(100))
    }

    /// Hundredths of a percent, `0..=10_000`.
    #[must_use]
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// Whether a call whose roll of the dice (or request hash), uniform over all `u32`, is `roll` belongs
    /// to this share. A larger share contains every call of a smaller one.
    #[must_use]
    pub const fn contains(self, roll: u32) -> bool {
        // 64 bits hold both products: 2^32 * 10^4 < 2^46.
        (roll as u64) * 10_000 < (self.0 as u64) << 32
    }

    /// Whether `part` of `whole` is at least this share. Nothing of nothing is no share at all.
    #[must_use]
    pub const fn reached(self, part: u64, whole: u64) -> bool {
        whole > 0 && (part as u128) * 10_000 >= (whole as u128) * (self.0 as u128)
    }
}

/// Which state of which owner: compared by incarnation, then by counter. Every change of state is a new one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch {
    /// Of the owner: a later owner of the key has a higher one.
    pub incarnation: u64,
    /// Changes of state under this owner, from 1; 0 is "no owner has spoken yet".
    pub counter: u64,
}

/// An instance of the SDK, chosen at random when it starts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReporterId(pub u64);

/// A permit to send one probe.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PermitId(pub u64);

/// State of a circuit, for the whole fleet.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum FleetState {
    /// All is well: the local breakers alone decide.
    #[default]
    Closed,
    /// Nothing passes until the wait is over.
    Open,
    /// A few probes pass, counted over the whole fleet.
    HalfOpen,
    /// A share of the calls passes; it grows as long as the target copes.
    Recovering,
    /// Opened by hand: nothing passes, no probes either.
    ForcedOpen,
    /// Switched off by hand: the local breakers alone decide, nothing is judged.
    Disabled,
    /// Judges and tells what it would do, but the local breakers alone decide.
    MetricsOnly,
}

/// Outcomes of calls.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Succeeded in time.
    pub success: u64,
    /// Failed quickly.
    pub failure: u64,
    /// Succeeded, but took longer than the slow duration.
    pub slow_success: u64,
    /// Failed, and took longer than the slow duration.
    pub slow_failure: u64,
    /// Say nothing about the target: the caller gave up, or a limiter refused.
    pub ignored: u64,
    /// Refused by the breaker, so never sent.
    pub not_permitted: u64,
}

/// Highest count that [`Counts`] are trusted with: a reporter that claims more is cut down to it, so that no
/// sum overflows.
pub(crate) const MAX_OUTCOMES: u64 = 1 << 40;

impl Counts {
    /// Calls that say something about the target.
    #[must_use]
    pub const fn judged(&self) -> u64 {
        self.success
            .saturating_add(self.failure)
            .saturating_add(self.slow_success)
            .saturating_add(self.slow_failure)
    }

    /// Failures, quick and slow.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failure.saturating_add(self.slow_failure)
    }

    /// Slow calls, failed or not.
    #[must_use]
    pub const fn slow(&self) -> u64 {
        self.slow_success.saturating_add(self.slow_failure)
    }

    /// Failures and slow successes: what tells a recovering target to be spared.
    #[must_use]
    pub const fn bad(&self) -> u64 {
        self.failures().saturating_add(self.slow_success)
    }

    /// Calls that the instance wanted to make: sent or refused.
    #[must_use]
    pub const fn wanted(&self) -> u64 {
        self.judged().saturating_add(self.ignored).saturating_add(self.not_permitted)
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Counts::default()
    }

    /// Adds `other`, field by field; saturates.
    pub fn add(&mut self, other: &Counts) {
        self.success = self.success.saturating_add(other.success);
        self.failure = self.failure.saturating_add(other.failure);
        self.slow_success = self.slow_success.saturating_add(other.slow_success);
        self.slow_failure = self.slow_failure.saturating_add(other.slow_failure);
        self.ignored = self.ignored.saturating_add(other.ignored);
        self.not_permitted = self.not_permitted.saturating_add(other.not_permitted);
    }

    /// Each field cut down to what a sum can bear.
    pub(crate) fn clipped(&self) -> Counts {
        Counts {
            success: self.success.min(MAX_OUTCOMES),
            failure: self.failure.min(MAX_OUTCOMES),
            slow_success: self.slow_success.min(MAX_OUTCOMES),
            slow_failure: self.slow_failure.min(MAX_OUTCOMES),
            ignored: self.ignored.min(MAX_OUTCOMES),
            not_permitted: self.not_permitted.min(MAX_OUTCOMES),
        }
    }
}

/// How one call ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OutcomeKind {
    /// The target answered.
    Success,
    /// The target failed, or did not answer in time.
    Failure,
    /// Says nothing about the target; a probe that ends so gives its permit back.
    Ignored,
}

/// The verdict of one probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProbeResult {
    /// Which permit was used.
    pub permit: PermitId,
    /// How the call ended.
    pub kind: OutcomeKind,
    /// Whether it took longer than the slow duration.
    pub slow: bool,
}

/// What an instance holds of an earlier owner, for a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The state it was told.
    pub state: FleetState,
    /// The epoch of that state.
    pub epoch: Epoch,
    /// What is left of the wait in [`FleetState::Open`] and of the time to live in
    /// [`FleetState::ForcedOpen`].
    pub remaining: Span,
    /// The share that passes in [`FleetState::Recovering`].
    pub admit: Share,
    /// Openings in a row, so that the backoff goes on where it was.
    pub attempt: u32,
}

/// What an instance has counted since its last delta.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delta {
    /// From 1, one more for each delta of this incarnation of the reporter; a resent delta keeps its own.
    pub sequence: u64,
    /// Under which the calls of `counts` were admitted.
    pub epoch: Epoch,
    /// How long ago the counting ended.
    pub age: Span,
    /// Outcomes of calls admitted under `epoch`, without those of probes.
    pub counts: Counts,
    /// Outcomes of calls admitted under an earlier epoch: for the metrics, never for a verdict.
    pub late: Counts,
    /// Largest hint of the target to stay away.
    pub retry_after: Option<Span>,
    /// Median latency of the successes in `counts`, if there are any.
    pub median: Option<Span>,
    /// Probes that ended.
    pub probes: SmallVec<[ProbeResult; 2]>,
    /// What the instance holds, while it is anything but closed.
    pub claim: Option<Claim>,
}

/// A delta and who sends it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Who.
    pub reporter: ReporterId,
    /// Of the reporter: higher after each restart under the same id.
    pub incarnation: u64,
    /// What.
    pub delta: Delta,
}

/// Which deltas of one reporter have arrived.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ack {
    /// Highest sequence seen; 0 is none.
    pub highest: u64,
    /// Bit `i` says that `highest - 1 - i` has arrived too; what is older than that is settled.
    pub earlier: u64,
}

impl Ack {
    /// Deltas below the highest that are still told apart.
    pub const REACH: u64 = 64;

    /// Whether the delta with this sequence has arrived (or is too old to be taken).
    #[must_use]
    pub const fn covers(&self, sequence: u64) -> bool {
        match self.highest.checked_sub(sequence) {
            None => false,
            Some(0) => true,
            Some(back) => back > Ack::REACH || self.earlier & (1 << (back - 1)) != 0,
        }
    }

    /// Notes an arrival; false if the sequence was covered already.
    #[must_use = "a delta that was covered must not be counted again"]
    pub fn insert(&mut self, sequence: u64) -> bool {
        if self.covers(sequence) {
            return false;
        }
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            let moved = if ahead >= Ack::REACH { 0 } else { self.earlier << ahead };
            let previous = if ahead <= Ack::REACH && self.highest > 0 { 1 << (ahead - 1) } else { 0 };
            (self.highest, self.earlier) = (sequence, moved | previous);
        } else {
            self.earlier |= 1 << (self.highest - sequence - 1);
        }
        true
    }
}

/// A permit on its way to an instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permit {
    /// Names it.
    pub id: PermitId,
    /// After this it is void, and goes to somebody else.
    pub ttl: Span,
}

/// What the owner of a circuit tells one instance.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Directive {
    /// Of this state; an instance ignores a lower one while its lease lives.
    pub epoch: Epoch,
    /// State of the circuit.
    pub state: FleetState,
    /// The share that passes in [`FleetState::Recovering`].
    pub admit: Share,
    /// Until the next probes in [`FleetState::Open`], until the end in [`FleetState::ForcedOpen`].
    pub probe_in: Span,
    /// Openings in a row, 0 when closed.
    pub attempt: u32,
    /// How long this holds without a further word.
    pub lease: Span,
    /// How often to report when all is well; see [`FleetView::flush_due`](super::FleetView::flush_due).
    pub report_interval: Span,
    /// Calls longer than this are slow; without it none is.
    pub slow_after: Option<Span>,
    /// Permits for this instance alone.
    pub permits: SmallVec<[Permit; 2]>,
    /// Whether the owner has permits left for those who ask.
    pub ask_probe: bool,
    /// Which deltas of this instance have arrived.
    pub ack: Ack,
    /// Of the configuration in force.
    pub config_version: u64,
}
