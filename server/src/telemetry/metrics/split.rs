//! How the hits of one request divide into over, near and within the limit, as the reference counts them.

use tollgate_core::limit::Verdict;

/// Share of a limit from which hits count as near it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NearRatio(pub(super) f32);

impl NearRatio {
    /// The count from which hits are near `limit`, in the reference's single precision.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the reference's arithmetic; a float beyond the range becomes the end of the range"
    )]
    fn threshold(self, limit: u64) -> u64 {
        (limit as f32 * self.0).floor() as u64
    }
}

/// The hits of one request; a hit may count as near and as within.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Split {
    pub(super) over: u64,
    pub(super) near: u64,
    pub(super) within: u64,
}

impl Split {
    /// Divides `hits`, for which `verdict` was the answer.
    ///
    /// The reference charges first and compares then. Where a refusal is not charged, the hits count as if
    /// it had been, so that the figures mean the same under every algorithm.
    pub(super) fn of(verdict: &Verdict, hits: u64, ratio: NearRatio) -> Split {
        let limit = verdict.limit;
        let before = verdict.used_before;
        let after = before.saturating_add(hits);
        let threshold = ratio.threshold(limit);
        if verdict.allowed {
            let near = if after > threshold { hits.min(after - threshold) } else { 0 };
            return Split { over: 0, near, within: hits };
        }
        // other algorithms may also refuse with room left: a queue that is too slow, a full store
        if before >= limit || after <= limit {
            return Split { over: hits, near: 0, within: 0 };
        }
        Split { over: after - limit, near: limit.saturating_sub(threshold.max(before)), within: 0 }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::limit::Retry;
    use tollgate_core::time::Span;

    use super::*;

    fn verdict(allowed: bool, limit: u64, used_before: u64) -> Verdict {
        Verdict {
            allowed,
            limit,
            remaining: 0,
            used_before,
            used: used_before,
            retry_after: Retry::After(Span::ZERO),
            reset_after: Span::ZERO,
            wait: Span::ZERO,
        }
    }

    /// The reference's fixed window: charged first, compared then.
    fn split(limit: u64, before: u64, hits: u64) -> (u64, u64, u64) {
        let Split { over, near, within } =
            Split::of(&verdict(before + hits <= limit, limit, before), hits, NearRatio(0.8));
        (over, near, within)
    }

    #[test]
    fn hits_up_to_the_threshold_are_within() {
        assert_eq!(split(10, 0, 1), (0, 0, 1));
        assert_eq!(split(10, 5, 3), (0, 0, 3));
    }

    #[test]
    fn hits_beyond_the_threshold_are_near_and_within() {
        assert_eq!(split(10, 8, 1), (0, 1, 1));
        assert_eq!(split(10, 8, 2), (0, 2, 2));
    }

    #[test]
    fn hits_across_the_threshold_are_near_only_beyond_it() {
        assert_eq!(split(10, 5, 4), (0, 1, 4));
        assert_eq!(split(10, 0, 10), (0, 2, 10));
    }

    #[test]
    fn hits_on_a_full_limit_are_over() {
        assert_eq!(split(10, 10, 3), (3, 0, 0));
        assert_eq!(split(10, 14, 1), (1, 0, 0));
        assert_eq!(split(0, 0, 1), (1, 0, 0));
    }

    #[test]
    fn hits_across_the_limit_are_over_beyond_it_near_below_it_and_never_within() {
        assert_eq!(split(10, 9, 3), (2, 1, 0));
        assert_eq!(split(10, 2, 20), (12, 2, 0));
    }

    #[test]
    fn the_single_hit_of_a_limit_of_one_is_near() {
        assert_eq!(split(1, 0, 1), (0, 1, 1));
    }

    #[test]
    fn a_look_is_nothing() {
        assert_eq!(split(10, 9, 0), (0, 0, 0));
        assert_eq!(split(10, 0, 0), (0, 0, 0));
    }

    #[test]
    fn the_threshold_is_rounded_down_in_single_precision() {
        assert_eq!(NearRatio(0.8).threshold(3), 2);
        assert_eq!(NearRatio(0.8).threshold(4_294_967_295), 3_435_973_888);
        assert_eq!(NearRatio(0.0).threshold(10), 0);
        assert_eq!(NearRatio(1.0).threshold(10), 10);
    }

    #[test]
    fn a_refusal_that_is_not_charged_counts_as_if_it_were() {
        let crossing = Split::of(&verdict(false, 10, 9), 3, NearRatio(0.8));
        assert_eq!(crossing, Split { over: 2, near: 1, within: 0 });
    }

    #[test]
    fn a_refusal_with_room_left_is_all_over() {
        let impatient = Split::of(&verdict(false, 10, 2), 3, NearRatio(0.8));
        assert_eq!(impatient, Split { over: 3, near: 0, within: 0 });
    }
}
