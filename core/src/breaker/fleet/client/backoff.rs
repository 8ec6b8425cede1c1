//! How instances come back when the owner is gone: each as its local breaker would, and not together.

use crate::time::Span;

/// Longest spread of the instances after the end of a lease, unless their base wait is longer.
const MOST_SPREAD: Span = Span::from_secs(60);

/// Where a local breaker would be so long after it first opened, if each wait is half as long again as the one
/// before: how many openings in a row it would have had, and how long it would wait.
pub(super) fn after(base: Span, since: Span) -> (u32, Span) {
    let (mut openings, mut wait, mut waited) = (1, base, base);
    while waited < since && wait < MOST_SPREAD && !base.is_zero() {
        wait = Span::from_wide((u128::from(wait.as_micros()) * 3).div_ceil(2));
        waited = waited + wait;
        openings += 1;
    }
    (openings, wait.min(MOST_SPREAD).max(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_half_as_long_again_up_to_a_minute() {
        let millis = |since| {
            let (openings, wait) = after(Span::from_secs(5), Span::from_millis(since));
            (openings, wait.as_micros() / 1_000)
        };
        assert_eq!([0, 5_000, 5_001].map(millis), [(1, 5_000), (1, 5_000), (2, 7_500)]);
        assert_eq!([12_501, 23_751].map(millis), [(3, 11_250), (4, 16_875)]);
        assert_eq!(millis(86_400_000), (8, 60_000));
    }

    #[test]
    fn extreme_base_waits_end() {
        assert_eq!(after(Span::ZERO, Span::MAX), (1, Span::ZERO));
        assert_eq!(after(Span::MAX, Span::MAX), (1, Span::MAX));
        assert_eq!(after(Span::MICRO, Span::MAX).1, MOST_SPREAD);
        assert_eq!(after(Span::from_secs(90), Span::MAX), (1, Span::from_secs(90)), "never below the base");
    }
}
