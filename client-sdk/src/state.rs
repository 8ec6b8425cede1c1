//! What a circuit breaker is doing.

use std::fmt;

/// What a circuit breaker is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are judged.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls pass as probes.
    HalfOpen,
    /// A growing share of the calls passes.
    Recovering,
    /// By hand: calls are rejected.
    ForcedOpen,
    /// By hand: calls pass, nothing is judged.
    Disabled,
    /// By hand: calls pass and are judged, but nothing trips.
    MetricsOnly,
}

impl State {
    /// Every state.
    pub const ALL: [State; 7] = [
        State::Closed,
        State::Open,
        State::HalfOpen,
        State::Recovering,
        State::ForcedOpen,
        State::Disabled,
        State::MetricsOnly,
    ];

    /// As metrics and logs name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
            State::Recovering => "recovering",
            State::ForcedOpen => "forced_open",
            State::Disabled => "disabled",
            State::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
