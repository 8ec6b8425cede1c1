//! Which requests are followed.

use super::context::Parent;

/// Thresholds are compared with the lower 63 bits of a trace's identifier.
const BITS: u32 = 63;

/// Which requests are followed. Every server that samples by the same ratio picks the same traces, since the
/// trace's identifier decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sampler {
    /// Identifiers below this are picked.
    threshold: u64,
    /// The caller's decision goes before.
    follows_parent: bool,
}

impl Sampler {
    /// Picks `ratio` of all traces, `0.0..=1.0`; if it `follows_parent`, only of those that begin here.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product is within 0..=2^63; a float beyond the range becomes its end"
    )]
    pub fn new(ratio: f64, follows_parent: bool) -> Sampler {
        let threshold = (ratio.clamp(0.0, 1.0) * (1_u64 << BITS) as f64) as u64;
        Sampler { threshold, follows_parent }
    }

    /// The lower half of the trace's identifier if it is picked. `random` gives one for a trace that begins
    /// here.
    #[inline]
    pub(super) fn picks(self, parent: Option<&Parent>, random: impl FnOnce() -> u64) -> Option<u64> {
        match parent {
            Some(parent) if self.follows_parent => parent.sampled.then(|| parent.low()),
            Some(parent) => self.admits(parent.low()),
            None if self.threshold == 0 => None,
            None => self.admits(random()),
        }
    }

    #[inline]
    fn admits(self, low: u64) -> Option<u64> {
        (low & (u64::MAX >> 1) < self.threshold).then_some(low)
    }
}
