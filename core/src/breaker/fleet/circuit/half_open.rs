//! A round of probes: so many permits for the whole fleet, and not one more.

use std::collections::BTreeMap;

use super::super::config::FleetConfig;
use super::super::wire::{Permit, PermitId, ProbeResult, ReporterId};
use crate::time::{Span, Time};

/// A permit that is out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Issued {
    reporter: ReporterId,
    expires: Time,
}

/// What a round has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    Overdue,
}

/// One round. `available + out + good + bad` is always the number of probes of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Round {
    began: Time,
    deadline: Time,
    life: Span,
    grace: Span,
    probes: u32,
    to_fail: u32,
    available: u32,
    out: BTreeMap<PermitId, Issued>,
    good: u32,
    bad: u32,
    /// Results by reporter.
    told: BTreeMap<ReporterId, u64>,
    /// Whether slow probes are bad: the circuit opened since calls were slow.
    slow_is_bad: bool,
}

impl Round {
    pub(super) fn new(now: Time, config: &FleetConfig, slow_is_bad: bool) -> Round {
        let settings = config.settings();
        Round {
            began: now,
            deadline: now + settings.half_open_max,
            life: config.permit_life(),
            grace: settings.permit_grace,
            probes: settings.probes,
            to_fail: config.probes_to_fail(),
            available: settings.probes,
            out: BTreeMap::new(),
            good: 0,
            bad: 0,
            told: BTreeMap::new(),
            slow_is_bad,
        }
    }

    pub(super) const fn available(&self) -> u32 {
        self.available
    }

    pub(super) fn out(&self) -> u32 {
        u32::try_from(self.out.len()).unwrap_or(u32::MAX)
    }

    pub(super) const fn results(&self) -> (u32, u32) {
        (self.good, self.bad)
    }

    /// How many permits of the round one reporter may have when `active` are there: two, so that at least
    /// half of the probes come from distinct reporters, or more if there are not enough reporters for that.
    /// A round that lasts gives as many again after each life of a permit: it may be that only one reporter
    /// has calls to make.
    fn most_for_one(&self, now: Time, active: usize) -> u64 {
        let equal = u64::from(self.probes).div_ceil((active as u64).max(1));
        let lives = (now - self.began).as_micros() / self.life.as_micros();
        equal.max(2).saturating_mul(lives + 1)
    }

    /// Permits that `reporter` holds, and results that it has told.
    fn had_by(&self, reporter: ReporterId) -> u64 {
        let held = self.out.values().filter(|issued| issued.reporter == reporter).count() as u64;
        held + self.told.get(&reporter).copied().unwrap_or_default()
    }

    /// Hands one permit named `id` to `reporter`, if there is one and it has not had too many.
    pub(super) fn issue(&mut self, now: Time, id: PermitId, to: ReporterId, active: usize) -> Option<Permit> {
        if self.available == 0 || self.had_by(to) >= self.most_for_one(now, active) {
            return None;
        }
        self.available -= 1;
        self.out.insert(id, Issued { reporter: to, expires: now + self.life });
        Some(Permit { id, ttl: self.grace })
    }

    /// The permits that `reporter` holds and may still use.
    pub(super) fn permits_of(&self, now: Time, reporter: ReporterId) -> impl Iterator<Item = Permit> {
        let call = self.life - self.grace;
        self.out.iter().filter_map(move |(id, issued)| {
            let ttl = issued.expires - now - call;
            (issued.reporter == reporter && !ttl.is_zero()).then_some(Permit { id: *id, ttl })
        })
    }

    /// Takes back the permits that nobody reported in time; returns how many.
    pub(super) fn expire(&mut self, now: Time) -> u32 {
        let before = self.out.len();
        self.out.retain(|_, issued| issued.expires > now);
        let expired = u32::try_from(before - self.out.len()).unwrap_or(u32::MAX);
        self.available += expired;
        expired
    }

    /// Counts the result of a permit, if `reporter` holds it.
    pub(super) fn result(&mut self, now: Time, reporter: ReporterId, result: &ProbeResult) {
        use super::super::wire::OutcomeKind::{Failure, Ignored, Success};
        let held = self.out.get(&result.permit);
        if !held.is_some_and(|issued| issued.reporter == reporter && issued.expires > now) {
            return;
        }
        self.out.remove(&result.permit);
        if result.kind != Ignored {
            *self.told.entry(reporter).or_default() += 1;
        }
        match result.kind {
            Ignored => self.available += 1,
            Success if !(result.slow && self.slow_is_bad) => self.good += 1,
            Success | Failure => self.bad += 1,
        }
    }

    /// The verdict, as soon as no further result can change it.
    pub(super) const fn verdict(&self, now: Time) -> Option<Verdict> {
        if self.bad >= self.to_fail {
            Some(Verdict::Failed)
        } else if self.good > self.probes - self.to_fail {
            Some(Verdict::Passed)
        } else if now.as_micros() >= self.deadline.as_micros() {
            Some(Verdict::Overdue)
        } else {
            None
        }
    }

    /// When something happens by itself.
    pub(super) fn wake(&self) -> Time {
        self.out.values().map(|issued| issued.expires).min().unwrap_or(self.deadline).min(self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::OutcomeKind;
    use super::*;

    const ANN: ReporterId = ReporterId(1);
    const BOB: ReporterId = ReporterId(2);

    fn round() -> Round {
        Round::new(Time::EPOCH, &FleetConfig::default(), false)
    }

    fn result(permit: u64, kind: OutcomeKind, slow: bool) -> ProbeResult {
        ProbeResult { permit: PermitId(permit), kind, slow }
    }

    #[test]
    fn one_reporter_gets_two_of_ten_among_many_and_all_of_them_alone() {
        let mut round = round();
        let given = (0..20).filter(|&id| round.issue(Time::EPOCH, PermitId(id), ANN, 100).is_some()).count();
        assert_eq!((given, round.available()), (2, 8));
        let given = (20..40).filter(|&id| round.issue(Time::EPOCH, PermitId(id), ANN, 1).is_some()).count();
        assert_eq!((given, round.available(), round.out()), (8, 0, 10));
    }

    #[test]
    fn a_result_counts_once_and_only_from_the_holder_in_time() {
        let mut round = round();
        round.issue(Time::EPOCH, PermitId(1), ANN, 9).unwrap();
        round.result(Time::EPOCH, BOB, &result(1, OutcomeKind::Failure, false));
        assert_eq!(round.results(), (0, 0));
        round.result(Time::EPOCH, ANN, &result(1, OutcomeKind::Failure, false));
        round.result(Time::EPOCH, ANN, &result(1, OutcomeKind::Failure, false));
        assert_eq!(round.results(), (0, 1));
        round.issue(Time::EPOCH, PermitId(2), ANN, 9).unwrap();
        let late = Time::EPOCH + Span::from_secs(3);
        round.result(late, ANN, &result(2, OutcomeKind::Failure, false));
        assert_eq!((round.results(), round.expire(late), round.available()), ((0, 1), 1, 9));
    }

    #[test]
    fn one_reporter_cannot_fail_a_round_alone_unless_nobody_else_has_calls() {
        let mut round = round();
        for id in 0..5 {
            if round.issue(Time::EPOCH, PermitId(id), ANN, 20).is_some() {
                round.result(Time::EPOCH, ANN, &result(id, OutcomeKind::Failure, false));
            }
        }
        assert_eq!((round.results(), round.verdict(Time::EPOCH)), ((0, 2), None));
        let later = Time::EPOCH + Span::from_secs(3);
        round.issue(later, PermitId(9), ANN, 20).unwrap();
        round.result(later, ANN, &result(9, OutcomeKind::Failure, false));
        assert_eq!(round.verdict(later), Some(Verdict::Failed));
    }

    #[test]
    fn an_ignored_probe_gives_its_permit_back() {
        let mut round = round();
        round.issue(Time::EPOCH, PermitId(1), ANN, 9).unwrap();
        round.result(Time::EPOCH, ANN, &result(1, OutcomeKind::Ignored, false));
        assert_eq!((round.available(), round.results()), (10, (0, 0)));
    }

    #[test]
    fn three_bad_or_eight_good_of_ten_decide() {
        for (kind, slow, needed, verdict) in [
            (OutcomeKind::Failure, false, 3, Verdict::Failed),
            (OutcomeKind::Success, false, 8, Verdict::Passed),
            (OutcomeKind::Success, true, 8, Verdict::Passed),
        ] {
            let mut round = round();
            for id in 0..needed {
                assert_eq!(round.verdict(Time::EPOCH), None);
                round.issue(Time::EPOCH, PermitId(id), ANN, 1).unwrap();
                round.result(Time::EPOCH, ANN, &result(id, kind, slow));
            }
            assert_eq!(round.verdict(Time::EPOCH), Some(verdict));
        }
    }

    #[test]
    fn slow_probes_are_bad_after_a_slow_outage() {
        let mut round = Round::new(Time::EPOCH, &FleetConfig::default(), true);
        round.issue(Time::EPOCH, PermitId(1), ANN, 1).unwrap();
        round.result(Time::EPOCH, ANN, &result(1, OutcomeKind::Success, true));
        assert_eq!(round.results(), (0, 1));
    }

    #[test]
    fn a_round_without_a_verdict_ends() {
        assert_eq!(round().verdict(Time::from_micros(59_999_999)), None);
        assert_eq!(round().verdict(Time::from_micros(60_000_000)), Some(Verdict::Overdue));
    }
}
