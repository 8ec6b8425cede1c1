//! Wire request to [`Query`], borrowing every text.

use std::time::Duration;

use prost_types::Duration as WireDuration;
use tollgate_core::load::criticality::Criticality;
use tollgate_core::rules::{Descriptor, Query};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;

use super::NotDecided;
use crate::adapter::bounded::MAX_DESCRIPTORS;
use crate::adapter::rls::patience;
use crate::engine::Manner;

/// The largest cost.
const MAX_COST: u64 = i64::MAX as u64;
/// Bytes of a caller's name for a request.
const MAX_ID: usize = 256;

/// One question.
pub(super) struct Check<'r> {
    pub(super) query: Query<'r>,
    pub(super) id: Option<&'r [u8]>,
    /// The store is not waited for any longer.
    pub(super) answer_within: Span,
}

impl<'r> Check<'r> {
    pub(super) fn manner(&self) -> Manner<'r> {
        Manner { id: self.id, answer_within: Some(self.answer_within), now: None }
    }
}

/// Reads `request`, whose caller waits at most `deadline`.
pub(super) fn check(
    request: &wire::CheckRequest,
    deadline: Option<Duration>,
) -> Result<Check<'_>, NotDecided> {
    let timeout = span("timeout", request.timeout.as_ref())?.unwrap_or(Span::MAX);
    let answer_within = deadline.map_or(Span::MAX, patience).min(timeout);
    let mut query = question(&request.domain, &request.descriptors)?;
    query.patience = span("max_wait", request.max_wait.as_ref())?.unwrap_or(answer_within);
    let cost = request.cost.unwrap_or(1);
    if cost > MAX_COST {
        return Err(out_of_range("cost".to_owned(), cost));
    }
    for (place, (descriptor, wire)) in query.descriptors.iter_mut().zip(&request.descriptors).enumerate() {
        let cost = wire.cost.unwrap_or(cost);
        if cost > MAX_COST {
            return Err(out_of_range(format!("descriptors[{place}].cost"), cost));
        }
        descriptor.hits = Some(cost);
        descriptor.refund = request.refund;
    }
    let id = request.idempotency_key.as_slice();
    if id.len() > MAX_ID {
        let why = format!("has {} bytes, more than {MAX_ID}", id.len());
        return Err(NotDecided::field("idempotency_key", why));
    }
    Ok(Check { query, id: Some(id).filter(|id| !id.is_empty()), answer_within })
}

/// How critical a check is; one that does not say, or says what nobody knows, is critical.
pub(super) fn class(criticality: i32) -> Criticality {
    match wire::Criticality::try_from(criticality) {
        Ok(wire::Criticality::CriticalPlus) => Criticality::CriticalPlus,
        Ok(wire::Criticality::SheddablePlus) => Criticality::SheddablePlus,
        Ok(wire::Criticality::Sheddable) => Criticality::Sheddable,
        Ok(wire::Criticality::Critical | wire::Criticality::Unspecified) | Err(_) => Criticality::Critical,
    }
}

/// What is asked, without a cost: a look.
pub(super) fn question<'r>(
    domain: &'r str,
    descriptors: &'r [wire::Descriptor],
) -> Result<Query<'r>, NotDecided> {
    if domain.is_empty() {
        return Err(NotDecided::field("domain", "must not be empty"));
    }
    if descriptors.is_empty() {
        return Err(NotDecided::field("descriptors", "must not be empty"));
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        let why = format!("has {} items, more than {MAX_DESCRIPTORS}", descriptors.len());
        return Err(NotDecided::field("descriptors", why));
    }
    let mut query = Query { domain, waits_itself: true, ..Query::default() };
    for (place, wire) in descriptors.iter().enumerate() {
        if wire.entries.is_empty() {
            return Err(NotDecided::field(format!("descriptors[{place}].entries"), "must not be empty"));
        }
        let entries = wire.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        query.descriptors.push(Descriptor { entries, hits: Some(0), ..Descriptor::default() });
    }
    Ok(query)
}

/// A time that is not negative, rounded down to microseconds; beyond what a [`Span`] holds is for ever.
pub(super) fn span(field: &'static str, wire: Option<&WireDuration>) -> Result<Option<Span>, NotDecided> {
    let Some(&WireDuration { seconds, nanos }) = wire else { return Ok(None) };
    let (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
        return Err(NotDecided::field(field, "must be a duration that is not negative"));
    };
    let micros = u128::from(seconds) * 1_000_000 + u128::from(nanos / 1_000);
    Ok(Some(Span::from_wide(micros)))
}

fn out_of_range(field: String, cost: u64) -> NotDecided {
    NotDecided::field(field, format!("{cost} is out of range: 0 to {MAX_COST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> wire::CheckRequest {
        let entry = wire::Entry { key: "user".into(), value: "ann".into() };
        let descriptor = wire::Descriptor { entries: vec![entry], cost: None };
        wire::CheckRequest { domain: "d".into(), descriptors: vec![descriptor], ..Default::default() }
    }

    fn text(request: &wire::CheckRequest) -> String {
        check(request, None).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_makes_no_sense_is_told_by_field() {
        let with = |change: fn(&mut wire::CheckRequest)| {
            let mut request = request();
            change(&mut request);
            text(&request)
        };
        assert_eq!(with(|_| {}), "");
        assert_eq!(with(|r| r.domain.clear()), "domain: must not be empty");
        assert_eq!(with(|r| r.descriptors.clear()), "descriptors: must not be empty");
        assert_eq!(with(|r| r.descriptors[0].entries.clear()), "descriptors[0].entries: must not be empty");
        assert_eq!(
            with(|r| r.cost = Some(1 << 63)),
            "cost: 9223372036854775808 is out of range: 0 to 9223372036854775807"
        );
        assert_eq!(
            with(|r| r.descriptors[0].cost = Some(u64::MAX)),
            "descriptors[0].cost: 18446744073709551615 is out of range: 0 to 9223372036854775807"
        );
        assert_eq!(
            with(|r| r.idempotency_key = vec![0; 257]),
            "idempotency_key: has 257 bytes, more than 256"
        );
        let negative = with(|r| r.max_wait = Some(WireDuration { seconds: -1, nanos: 0 }));
        assert_eq!(negative, "max_wait: must be a duration that is not negative");
        let negative = with(|r| r.timeout = Some(WireDuration { seconds: 0, nanos: 1_000_000_000 }));
        assert_eq!(negative, "timeout: must be a duration that is not negative");
    }

    #[test]
    fn the_cost_is_one_unless_somebody_says_otherwise() {
        let mut request = request();
        assert_eq!(check(&request, None).unwrap().query.descriptors[0].hits, Some(1));
        request.cost = Some(0);
        assert_eq!(check(&request, None).unwrap().query.descriptors[0].hits, Some(0), "a look");
        request.descriptors[0].cost = Some(7);
        assert_eq!(check(&request, None).unwrap().query.descriptors[0].hits, Some(7));
    }

    #[test]
    fn who_cannot_wait_for_a_turn_still_waits_for_the_answer() {
        let mut request = request();
        request.max_wait = Some(WireDuration::default());
        let check = check(&request, Some(Duration::from_millis(50))).unwrap();
        assert_eq!(check.query.patience, Span::ZERO);
        assert_eq!(check.answer_within, Span::from_millis(48));
    }
}
