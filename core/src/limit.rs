//! Limits: one algorithm a file, each a pure function from (state, now, ask) to a verdict and a new state.

mod calendar;
mod fixed_window;
mod leaky_bucket;
mod level;
mod rate;
mod share;
mod sliding_log;
mod sliding_window;
mod token_bucket;

pub use calendar::{Calendar, CalendarUnit};
pub use fixed_window::{FixedState, FixedWindow, Refused, Window};
pub use leaky_bucket::LeakyBucket;
pub use level::Level;
pub use rate::Rate;
pub use sliding_log::{LogState, SlidingLog};
pub use sliding_window::{SlidingState, SlidingWindow};
pub use token_bucket::TokenBucket;

use crate::time::{Span, Time};

/// Largest count that a state holds: `2^53 - 1`. Counts saturate there, which no limit reaches.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// What a request wants from a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cost {
    /// Take this many units, `0..=2^63 - 1`. Zero looks without writing.
    Take(u64),
    /// Give this many units back; never below "nothing used".
    Refund(u64),
}

/// One question to one limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ask {
    /// How much.
    pub cost: Cost,
    /// The longest wait that the caller can bear; only the leaky bucket makes anybody wait.
    pub patience: Span,
}

impl Ask {
    /// Takes `units` and waits for as long as the limit itself allows.
    #[must_use]
    pub const fn take(units: u64) -> Ask {
        Ask { cost: Cost::Take(units), patience: Span::MAX }
    }

    /// Gives `units` back.
    #[must_use]
    pub const fn refund(units: u64) -> Ask {
        Ask { cost: Cost::Refund(units), patience: Span::MAX }
    }

    /// Looks without writing.
    #[must_use]
    pub const fn peek() -> Ask {
        Ask::take(0)
    }
}

/// When a refused request would be admitted if nobody else came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// Exactly this long after `now`; zero when the request was admitted. At [`Span::MAX`] it is only a
    /// lower bound (285 years).
    After(Span),
    /// Never: the cost is more than the limit can ever hold.
    Never,
}

/// The answer of one limit to one [`Ask`]. A refusal is a value, not an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Whether the cost was admitted.
    pub allowed: bool,
    /// The capacity: requests per window, burst, or queue length plus the one that leaves at once.
    pub limit: u64,
    /// How many further requests of cost 1 would be admitted at this same instant, after this one.
    pub remaining: u64,
    /// Units in use before this request.
    pub used_before: u64,
    /// Units in use after it. With [`Refused::Counts`] this may exceed `limit`.
    pub used: u64,
    /// When to come again after a refusal.
    pub retry_after: Retry,
    /// How long until the window ends (fixed window) or until nothing is in use (the others).
    pub reset_after: Span,
    /// How long an admitted request has to wait for its turn (leaky bucket only, else zero).
    pub wait: Span,
}

/// What one key remembers between requests, by algorithm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// Tokens taken and not yet refilled.
    TokenBucket(Level),
    /// Requests queued and not yet drained.
    LeakyBucket(Level),
    /// The count of one window.
    FixedWindow(FixedState),
    /// The counts of this window and the one before.
    SlidingWindow(SlidingState),
    /// Every admission of the last window.
    SlidingLog(LogState),
}

/// The outcome of a step: what to answer and what to remember.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// The answer.
    pub verdict: Verdict,
    /// What to store; `None` leaves the stored state untouched.
    pub state: Option<State>,
}

/// A limit with its arithmetic prepared, so that a step only adds, multiplies and compares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Limit {
    /// Tokens refill at a rate up to a burst.
    TokenBucket(TokenBucket),
    /// Requests leave at a rate and wait in a bounded queue.
    LeakyBucket(LeakyBucket),
    /// A count per window.
    FixedWindow(FixedWindow),
    /// A weighted count over two windows.
    SlidingWindow(SlidingWindow),
    /// Every admission remembered.
    SlidingLog(SlidingLog),
}

/// Why a limit cannot be built.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// The rate is below 1 per 366 days or above 10 000 000 per second.
    #[error("rate of {count} per {per} is out of range: 1 per year to 10000000 per second")]
    Rate {
        /// Units per `per`.
        count: u64,
        /// The span in which they are given out.
        per: Span,
    },
    /// The burst is zero or above 10 000 000.
    #[error("burst {0} is out of range: 1 to 10000000")]
    Burst(u64),
    /// The queue is above 10 000 000.
    #[error("queue {0} is out of range: 0 to 10000000")]
    Queue(u64),
    /// The limit is above `u32::MAX`.
    #[error("limit {0} is out of range: 0 to 4294967295")]
    Limit(u64),
    /// A log holds at most [`SlidingLog::MAX_LIMIT`] admissions.
    #[error("limit {0} is too large for an exact log: 0 to {max}", max = SlidingLog::MAX_LIMIT)]
    Log(u64),
    /// The window is empty or longer than 100 years.
    #[error("window of {0} is out of range: 1us to 100 years")]
    Window(Span),
    /// The time zone is not in the IANA database.
    #[error("unknown time zone '{0}'")]
    Zone(String),
}

impl Limit {
    /// Decides one request. Pure: the same inputs give the same answer in every engine.
    ///
    /// A state left by another algorithm counts as no state. `now` before the state's own time counts as
    /// the state's time, so that a clock that goes backwards never admits more.
    #[must_use]
    pub fn step(&self, state: Option<&State>, now: Time, ask: Ask) -> Step {
        match self {
            Limit::TokenBucket(limit) => limit.step(state, now, ask),
            Limit::LeakyBucket(limit) => limit.step(state, now, ask),
            Limit::FixedWindow(limit) => limit.step(state, now, ask),
            Limit::SlidingWindow(limit) => limit.step(state, now, ask),
            Limit::SlidingLog(limit) => limit.step(state, now, ask),
        }
    }

    /// When `state` may be forgotten without changing any later answer of this limit.
    #[must_use]
    pub fn expires(&self, state: &State) -> Time {
        match self {
            Limit::TokenBucket(limit) => limit.expires(state),
            Limit::LeakyBucket(limit) => limit.expires(state),
            Limit::FixedWindow(limit) => limit.expires(state),
            Limit::SlidingWindow(limit) => limit.expires(state),
            Limit::SlidingLog(limit) => limit.expires(state),
        }
    }

    /// The most that can be admitted at one instant from a fresh state.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        match self {
            Limit::TokenBucket(limit) => limit.capacity(),
            Limit::LeakyBucket(limit) => limit.capacity(),
            Limit::FixedWindow(limit) => limit.capacity(),
            Limit::SlidingWindow(limit) => limit.capacity(),
            Limit::SlidingLog(limit) => limit.capacity(),
        }
    }

    /// The algorithm's name, as in rules files.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Limit::TokenBucket(_) => "token_bucket",
            Limit::LeakyBucket(_) => "leaky_bucket",
            Limit::FixedWindow(_) => "fixed_window",
            Limit::SlidingWindow(_) => "sliding_window",
            Limit::SlidingLog(_) => "sliding_window with precision log",
        }
    }

    /// Bytes that a state of this limit may take besides its own size: an exact log keeps every admission.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Limit::SlidingLog(limit) => {
                usize::try_from(limit.capacity()).unwrap_or(usize::MAX).saturating_mul(16)
            }
            _ => 0,
        }
    }
}
