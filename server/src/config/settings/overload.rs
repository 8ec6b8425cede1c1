//! Section `[overload]`: what a server does when it has more to do than it can.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::origin::Origins;
use super::problem::Problem;

/// `[overload]`
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overload {
    /// Longest mean wait in a worker's queue, `200ms`; a longer one sheds checks of the native API, the least
    /// critical first. From `1ms` to `10s`; `0s` never sheds.
    #[serde(with = "duration")]
    pub queue_delay: Duration,
    /// While checks are shed, clients of fleet breakers report no more often than this, `5s`; up to a third of
    /// their lease.
    #[serde(with = "duration")]
    pub report_interval: Duration,
}

impl Default for Overload {
    fn default() -> Overload {
        Overload { queue_delay: Duration::from_millis(200), report_interval: Duration::from_secs(5) }
    }
}

/// What is wrong with the section.
pub(super) fn problems(overload: &Overload, origins: &Origins) -> Option<Problem> {
    let delay = overload.queue_delay;
    let fits = delay.is_zero() || (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&delay);
    let why = "overload.queue_delay must be 1ms to 10s, or 0s to shed nothing";
    (!fits)
        .then(|| Problem::Refused { origin: origins.of("overload.queue_delay").clone(), why: why.to_owned() })
}
