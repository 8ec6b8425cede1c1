//! How a new owner learns what earlier owners decided: from the instances, which hold it by their leases.
//!
//! Without this the first directive of a new owner would say "closed", and the whole fleet would run onto a
//! target that is still down.

use std::collections::BTreeMap;

use super::super::config::FleetSettings;
use super::super::wire::{Claim, FleetState, ReporterId};
use crate::time::{Span, Time};

/// What was claimed so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Adoption {
    pub(super) until: Time,
    /// The last claim of each reporter; none is "I hold nothing but closed".
    claims: BTreeMap<ReporterId, Option<Claim>>,
}

/// How strict a state is; 0 is not worth adopting.
const fn strictness(state: FleetState) -> u8 {
    match state {
        FleetState::ForcedOpen => 4,
        FleetState::Open => 3,
        FleetState::HalfOpen => 2,
        FleetState::Recovering => 1,
        FleetState::Closed | FleetState::Disabled | FleetState::MetricsOnly => 0,
    }
}

impl Adoption {
    pub(super) const fn new(until: Time) -> Adoption {
        Adoption { until, claims: BTreeMap::new() }
    }

    /// Notes what `reporter` holds; at most `most` reporters are heard.
    pub(super) fn claim(&mut self, reporter: ReporterId, claim: Option<Claim>, most: usize) {
        if self.claims.len() < most || self.claims.contains_key(&reporter) {
            self.claims.insert(reporter, claim);
        }
    }

    /// The strictest state that a quorum of those heard holds (or a stricter one), with the median of what
    /// they say of it. With few reporters half of them are a quorum.
    pub(super) fn verdict(&self, settings: &FleetSettings) -> Option<Claim> {
        let heard = self.claims.len() as u64;
        let needed = if heard < u64::from(settings.plain_below) {
            heard.div_ceil(2).max(1)
        } else {
            let share = u64::from(settings.quorum_share.basis_points());
            (heard * share).div_ceil(10_000).max(u64::from(settings.quorum_min))
        };
        let held = |least: u8| {
            let claims = self.claims.values().flatten();
            claims.filter(move |claim| strictness(claim.state) >= least).copied().collect::<Vec<_>>()
        };
        let adopted = [4, 3, 2, 1].into_iter().find(|&least| held(least).len() as u64 >= needed)?;
        middle(held(adopted), adopted)
    }
}

/// One claim for all of `claims`: their medians, in the least strict state that still has the quorum.
fn middle(mut claims: Vec<Claim>, strict: u8) -> Option<Claim> {
    claims.sort_unstable_by_key(|claim| claim.remaining);
    let remaining = claims.get(claims.len() / 2)?.remaining;
    claims.sort_unstable_by_key(|claim| claim.admit);
    let admit = claims.get(claims.len() / 2)?.admit;
    claims.sort_unstable_by_key(|claim| claim.attempt);
    let attempt = claims.get(claims.len() / 2)?.attempt;
    let exact = claims.iter().filter(|claim| strictness(claim.state) == strict);
    let claim = exact.max_by_key(|claim| claim.epoch)?;
    let remaining = if strict == strictness(FleetState::HalfOpen) { Span::ZERO } else { remaining };
    Some(Claim { remaining, admit, attempt, ..*claim })
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::{Epoch, Share};
    use super::*;

    fn held(state: FleetState, secs: u64) -> Option<Claim> {
        let epoch = Epoch { incarnation: 1, counter: 5 };
        let admit = Share::percent(40);
        Some(Claim { state, epoch, remaining: Span::from_secs(secs), admit, attempt: 2 })
    }

    fn verdict(claims: &[Option<Claim>]) -> Option<(FleetState, u64)> {
        let mut adoption = Adoption::new(Time::MAX);
        for (id, claim) in claims.iter().enumerate() {
            adoption.claim(ReporterId(id as u64), *claim, 100);
        }
        let claim = adoption.verdict(&FleetSettings::default());
        claim.map(|claim| (claim.state, claim.remaining.as_secs_ceil()))
    }

    #[test]
    fn the_strictest_state_with_a_quorum_is_adopted() {
        use FleetState::{Closed, Open, Recovering};
        let mut claims = vec![held(Recovering, 0); 10];
        claims.extend([held(Open, 5), held(Open, 9)]);
        assert_eq!(verdict(&claims), Some((Recovering, 0)), "two are no quorum of twelve");
        claims.push(held(Open, 7));
        assert_eq!(verdict(&claims), Some((Open, 7)));
        assert_eq!(verdict(&vec![held(Closed, 0); 10]), None);
    }

    #[test]
    fn one_liar_among_many_is_not_believed_and_one_of_two_is() {
        let mut claims = vec![None; 9];
        claims.push(held(FleetState::ForcedOpen, 600));
        assert_eq!(verdict(&claims), None);
        assert_eq!(verdict(&[None, held(FleetState::Open, 3)]), Some((FleetState::Open, 3)));
        assert_eq!(verdict(&[None, None, held(FleetState::Open, 3)]), None);
        assert_eq!(verdict(&[]), None);
    }

    #[test]
    fn the_order_of_claims_does_not_matter() {
        let mut claims = vec![held(FleetState::Open, 1), None, held(FleetState::HalfOpen, 0), None, None];
        claims.extend([held(FleetState::Open, 8), held(FleetState::Open, 4)]);
        let first = verdict(&claims);
        claims.reverse();
        assert_eq!((first, verdict(&claims)), (Some((FleetState::Open, 4)), first));
    }
}
