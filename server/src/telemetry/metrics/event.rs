//! What one answer adds to the counters of its rule.

use tollgate_core::limit::{Ask, Cost};
use tollgate_core::rules::{Answer, By, Status};

use super::split::{NearRatio, Split};
use crate::telemetry::meter::{Count, RuleMeter};

/// One answer, as it is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// A look.
    Nothing,
    /// Hits given back.
    Refund(u64),
    /// Hits that met no limit.
    Unlimited(u64),
    /// Hits that a limit judged.
    Judged {
        /// All of them.
        hits: u64,
        /// How they divide.
        split: Split,
        /// What became of the request.
        ending: Ending,
        /// Who judged.
        by: By,
    },
}

/// What became of a request, as far as one rule goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    Allowed,
    Refused,
    /// Only the rule's shadow mode let it pass.
    Shadowed,
}

impl Event {
    pub(super) fn of(ask: Ask, answer: &Answer, status: Status, near: NearRatio) -> Event {
        let hits = match ask.cost {
            Cost::Take(0) => return Event::Nothing,
            Cost::Refund(hits) => return Event::Refund(hits),
            Cost::Take(hits) => hits,
        };
        let ending = match (answer.verdict.allowed, status) {
            (true, _) => Ending::Allowed,
            (false, Status::OverLimit) => Ending::Refused,
            (false, Status::Ok) => Ending::Shadowed,
        };
        Event::Judged { hits, split: Split::of(&answer.verdict, hits, near), ending, by: answer.by }
    }

    pub(super) fn unlimited(cost: Cost) -> Event {
        match cost {
            Cost::Take(0) => Event::Nothing,
            Cost::Take(hits) => Event::Unlimited(hits),
            Cost::Refund(hits) => Event::Refund(hits),
        }
    }

    pub(super) fn count(&self, meter: &RuleMeter) {
        let mine = meter.mine();
        match *self {
            Event::Nothing => {}
            Event::Refund(hits) => mine.add(Count::Refunded, hits),
            Event::Unlimited(hits) => {
                mine.add(Count::Beyond, hits);
                mine.add(Count::Allowed, 1);
            }
            Event::Judged { hits, split, ending, by } => {
                mine.add(if ending == Ending::Allowed { Count::Within } else { Count::Beyond }, hits);
                mine.add(Count::Near, split.near);
                mine.add(Count::Over, split.over);
                mine.add(ending.count(), 1);
                mine.add(Count::ShadowedHits, if ending == Ending::Shadowed { split.over } else { 0 });
                mine.add(Count::Full, u64::from(by == By::Full));
            }
        }
    }
}

impl Ending {
    fn count(self) -> Count {
        match self {
            Ending::Allowed => Count::Allowed,
            Ending::Refused => Count::Refused,
            Ending::Shadowed => Count::Shadowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::limit::{Retry, Verdict};
    use tollgate_core::time::Span;

    use super::*;
    use crate::telemetry::meter::{Stripes, Tally};

    fn answer(allowed: bool, used_before: u64, by: By) -> Answer {
        let verdict = Verdict {
            allowed,
            limit: 10,
            remaining: 0,
            used_before,
            used: used_before,
            retry_after: Retry::Never,
            reset_after: Span::ZERO,
            wait: Span::ZERO,
        };
        Answer { verdict, by }
    }

    fn tally(event: Event) -> Tally {
        let meter = RuleMeter::new(Stripes::for_threads(1));
        event.count(&meter);
        meter.tally()
    }

    fn judged(hits: u64, answer: Answer, status: Status) -> Tally {
        tally(Event::of(Ask::take(hits), &answer, status, NearRatio(0.8)))
    }

    #[test]
    fn an_admitted_request_counts_within_and_near() {
        let tally = judged(2, answer(true, 7, By::Memory), Status::Ok);
        let expected =
            Tally { total_hits: 2, within_limit: 2, near_limit: 1, allowed: 1, ..Tally::default() };
        assert_eq!(tally, expected);
    }

    #[test]
    fn a_refused_request_counts_over() {
        let tally = judged(3, answer(false, 9, By::Memory), Status::OverLimit);
        let expected = Tally { total_hits: 3, over_limit: 2, near_limit: 1, refused: 1, ..Tally::default() };
        assert_eq!(tally, expected);
    }

    #[test]
    fn a_request_let_pass_by_shadow_counts_its_hits_over_as_shadowed_too() {
        let tally = judged(3, answer(false, 9, By::Memory), Status::Ok);
        let (over_limit, near_limit) = (2, 1);
        let expected = Tally {
            total_hits: 3,
            over_limit,
            near_limit,
            shadowed_hits: 2,
            shadowed: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn an_answer_of_a_full_store_counts_as_such() {
        let tally = judged(1, answer(false, 0, By::Full), Status::OverLimit);
        assert_eq!(tally, Tally { total_hits: 1, over_limit: 1, refused: 1, full: 1, ..Tally::default() });
    }

    #[test]
    fn looks_count_nothing_and_refunds_only_themselves() {
        assert!(judged(0, answer(true, 9, By::Memory), Status::Ok).is_empty());
        let refund = Event::of(Ask::refund(4), &answer(true, 9, By::Memory), Status::Ok, NearRatio(0.8));
        assert_eq!(tally(refund), Tally { refunded_hits: 4, ..Tally::default() });
    }

    #[test]
    fn hits_without_a_limit_count_in_the_total() {
        let expected = Tally { total_hits: 5, allowed: 1, ..Tally::default() };
        assert_eq!(tally(Event::unlimited(Cost::Take(5))), expected);
        assert!(tally(Event::unlimited(Cost::Take(0))).is_empty());
        assert_eq!(tally(Event::unlimited(Cost::Refund(5))), Tally { refunded_hits: 5, ..Tally::default() });
    }
}
