//! From messages to values. Whatever makes no sense is refused with the name of its field.

use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::breaker::fleet::{
    Claim, Counts, Delta, Epoch, FleetState, OutcomeKind, PermitId, ProbeResult, ReporterId, Share,
};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;
use tonic::Status;

use tollgate_core::load::random::hash_bytes;

use super::key::Key;

/// Longest age of a delta that means anything: nothing is kept as long.
const LONGEST: Span = Span::from_secs(86_400);

/// One process that reports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reporter {
    /// The core's number for it: the same on every server.
    pub(super) id: ReporterId,
    /// As it calls itself.
    pub(super) wire: wire::Reporter,
}

/// What a client says about one circuit, with the message that says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Happened(Box<Delta>, wire::OutcomeDelta),
    Believes(Claim, wire::Claim),
    Watches,
}

/// What a client says, circuit by circuit in the order in which they first come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub(super) about: Vec<(Key, SmallVec<[Said; 2]>)>,
    pub(super) unwatch: Vec<Key>,
}

/// Reads who reports.
///
/// # Errors
/// INVALID_ARGUMENT: nobody, or an id of no or too many bytes.
pub(super) fn reporter(reporter: Option<wire::Reporter>) -> Result<Reporter, Status> {
    let wire =
        reporter.ok_or_else(|| invalid("reporter is missing: the first message has to say who reports"))?;
    if wire.id.is_empty() || wire.id.len() > 64 {
        return Err(invalid(format!("reporter.id has {} bytes, must have 1 to 64", wire.id.len())));
    }
    if wire.zone.len() > 64 {
        return Err(invalid(format!("reporter.zone has {} bytes, at most 64", wire.zone.len())));
    }
    Ok(Reporter { id: ReporterId(hash_bytes(&wire.id)), wire })
}

/// Reads a claim.
///
/// # Errors
/// INVALID_ARGUMENT: a field of it makes no sense.
pub(super) fn believes(claim: wire::Claim) -> Result<Said, Status> {
    Ok(Said::Believes(self::claim(&claim, &|field| format!("claim.{field}"))?, claim))
}

/// Reads everything that one message says of circuits.
///
/// # Errors
/// INVALID_ARGUMENT: the first field that makes no sense.
pub(super) fn heard(request: wire::SyncRequest) -> Result<Heard, Status> {
    let mut heard = Heard::default();
    for (index, claim) in request.claims.into_iter().enumerate() {
        let at = |field: &str| format!("claims[{index}].{field}");
        let key = key(claim.key.as_ref(), &at("key"))?;
        heard.add(key, Said::Believes(self::claim(&claim, &at)?, claim));
    }
    for (index, delta) in request.deltas.into_iter().enumerate() {
        let at = |field: &str| format!("deltas[{index}].{field}");
        let key = key(delta.key.as_ref(), &at("key"))?;
        heard.add(key, Said::Happened(Box::new(self::delta(&delta, &at)?), delta));
    }
    for (index, watched) in request.watch.iter().enumerate() {
        heard.add(key(Some(watched), &format!("watch[{index}]"))?, Said::Watches);
    }
    let unwatch = request.unwatch.iter().enumerate();
    let unwatch = unwatch.map(|(index, unwatched)| key(Some(unwatched), &format!("unwatch[{index}]")));
    heard.unwatch = unwatch.collect::<Result<_, _>>()?;
    Ok(heard)
}

impl Heard {
    fn add(&mut self, key: Key, said: Said) {
        // few circuits a message: a look at the last ones is cheaper than a map
        match self.about.iter_mut().rev().take(16).find(|(known, _)| *known == key) {
            Some((_, all)) => all.push(said),
            None => self.about.push((key, SmallVec::from_iter([said]))),
        }
    }
}

/// Reads the name of a circuit in `field`.
///
/// # Errors
/// INVALID_ARGUMENT: there is none, or it makes no sense.
pub(super) fn key(key: Option<&wire::CircuitKey>, field: &str) -> Result<Key, Status> {
    let key = key.ok_or_else(|| invalid(format!("{field} is missing")))?;
    Key::read(key).map_err(|why| invalid(format!("{field}.{why}")))
}

fn delta(delta: &wire::OutcomeDelta, at: &dyn Fn(&str) -> String) -> Result<Delta, Status> {
    if delta.sequence == 0 {
        return Err(invalid(format!("{} is 0, must be 1 or more", at("sequence"))));
    }
    let counts = Counts {
        success: delta.success,
        failure: delta.failure,
        slow_success: delta.slow_success,
        slow_failure: delta.slow_failure,
        ignored: delta.ignored,
        not_permitted: delta.not_permitted,
    };
    let (counts, probes) = match delta.permit.as_slice() {
        [] => (counts, SmallVec::new()),
        permit => (Counts::default(), SmallVec::from_iter([probe(permit, &counts, at)?])),
    };
    Ok(Delta {
        sequence: delta.sequence,
        epoch: epoch(delta.epoch),
        age: span(delta.age, &at("age"))?.unwrap_or(Span::ZERO).min(LONGEST),
        counts,
        late: Counts::default(),
        retry_after: span(delta.retry_after, &at("retry_after"))?,
        median: span(delta.typical, &at("typical"))?,
        probes,
        claim: None,
    })
}

fn probe(permit: &[u8], counts: &Counts, at: &dyn Fn(&str) -> String) -> Result<ProbeResult, Status> {
    let id: [u8; 8] = permit.try_into().map_err(|_| {
        invalid(format!("{} has {} bytes: it is no permit of ours", at("permit"), permit.len()))
    })?;
    let total = counts.judged().saturating_add(counts.ignored).saturating_add(counts.not_permitted);
    if total != 1 || counts.not_permitted > 0 {
        let what = "success, failure, slow_success, slow_failure and ignored must be 1, the others 0";
        return Err(invalid(format!("{} is the outcome of one call: one of {what}", at("permit"))));
    }
    let kind = match counts {
        Counts { ignored: 1, .. } => OutcomeKind::Ignored,
        Counts { failure: 1, .. } | Counts { slow_failure: 1, .. } => OutcomeKind::Failure,
        _ => OutcomeKind::Success,
    };
    Ok(ProbeResult { permit: PermitId(u64::from_be_bytes(id)), kind, slow: counts.slow() > 0 })
}

fn claim(claim: &wire::Claim, at: &dyn Fn(&str) -> String) -> Result<Claim, Status> {
    let state = state(claim.state).ok_or_else(|| {
        invalid(format!("{} is {}, must be a state of a circuit", at("state"), claim.state))
    })?;
    if !(0.0..=1.0).contains(&claim.admit) {
        return Err(invalid(format!("{} is {}, must be from 0 to 1", at("admit"), claim.admit)));
    }
    Ok(Claim {
        state,
        epoch: epoch(claim.epoch),
        remaining: span(claim.remaining, &at("remaining"))?.unwrap_or(Span::ZERO).min(LONGEST),
        admit: share(claim.admit),
        attempt: claim.attempt.max(u32::from(state != FleetState::Closed)),
    })
}

fn state(state: i32) -> Option<FleetState> {
    Some(match wire::CircuitState::try_from(state).ok()? {
        wire::CircuitState::Unspecified => return None,
        wire::CircuitState::Closed => FleetState::Closed,
        wire::CircuitState::Open => FleetState::Open,
        wire::CircuitState::HalfOpen => FleetState::HalfOpen,
        wire::CircuitState::Recovering => FleetState::Recovering,
        wire::CircuitState::ForcedOpen => FleetState::ForcedOpen,
        wire::CircuitState::Disabled => FleetState::Disabled,
    })
}

fn epoch(epoch: Option<wire::Epoch>) -> Epoch {
    let wire::Epoch { incarnation, counter } = epoch.unwrap_or_default();
    Epoch { incarnation, counter }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 to 10 000")]
fn share(ratio: f64) -> Share {
    Share::from_basis_points((ratio * 10_000.0).round() as u16)
}

/// Reads a duration of `field`, rounded up to microseconds.
///
/// # Errors
/// INVALID_ARGUMENT: it is negative or no duration.
pub(super) fn span(duration: Option<prost_types::Duration>, field: &str) -> Result<Option<Span>, Status> {
    let Some(duration) = duration else { return Ok(None) };
    let time = Duration::try_from(duration)
        .map_err(|_| invalid(format!("{field} is {}s, must be 0s or more", duration.seconds)))?;
    Ok(Some(Span::from_wide(time.as_nanos().div_ceil(1_000))))
}

/// INVALID_ARGUMENT with `why`.
pub(super) fn invalid(why: impl Into<String>) -> Status {
    Status::invalid_argument(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_key() -> wire::CircuitKey {
        wire::CircuitKey { namespace: "n".into(), target: "t".into(), ..wire::CircuitKey::default() }
    }

    fn with_delta(change: impl FnOnce(&mut wire::OutcomeDelta)) -> Result<Heard, Status> {
        let mut delta = wire::OutcomeDelta { key: Some(wire_key()), sequence: 1, ..Default::default() };
        change(&mut delta);
        heard(wire::SyncRequest { deltas: vec![delta], ..Default::default() })
    }

    fn refused(change: impl FnOnce(&mut wire::OutcomeDelta)) -> String {
        let status = with_delta(change).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    fn first(heard: Heard) -> Delta {
        match heard.about.into_iter().next().unwrap().1.into_iter().next().unwrap() {
            Said::Happened(delta, _) => *delta,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert_eq!(refused(|delta| delta.key = None), "deltas[0].key is missing");
        assert!(
            refused(|delta| delta.key = Some(Default::default())).starts_with("deltas[0].key.namespace is")
        );
        assert!(refused(|delta| delta.sequence = 0).starts_with("deltas[0].sequence is 0"));
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert!(refused(|delta| delta.age = Some(negative)).starts_with("deltas[0].age is -1s"));
        assert!(refused(|delta| delta.permit = vec![1]).starts_with("deltas[0].permit has 1 bytes"));
        let two = |delta: &mut wire::OutcomeDelta| {
            (delta.permit, delta.success, delta.failure) = (vec![0; 8], 1, 1);
        };
        assert!(refused(two).contains("the outcome of one call"));
    }

    #[test]
    fn claims_are_checked_too() {
        let refused = |claim: wire::Claim| {
            let claim = wire::Claim { key: Some(wire_key()), ..claim };
            heard(wire::SyncRequest { claims: vec![claim], ..Default::default() })
                .unwrap_err()
                .message()
                .to_owned()
        };
        assert!(refused(wire::Claim::default()).starts_with("claims[0].state is 0"));
        assert!(
            refused(wire::Claim { state: 2, admit: f64::NAN, ..Default::default() }).contains("admit is NaN")
        );
        assert!(refused(wire::Claim { state: 99, ..Default::default() }).contains("state is 99"));
    }

    #[test]
    fn who_reports_has_to_be_said() {
        let why = |id: usize| {
            let wire = wire::Reporter { id: vec![1; id], ..Default::default() };
            reporter(Some(wire)).unwrap_err().message().to_owned()
        };
        assert!(reporter(None).unwrap_err().message().starts_with("reporter is missing"));
        assert!(why(0).contains("0 bytes") && why(65).contains("65 bytes"));
    }

    #[test]
    fn the_outcome_of_a_probe_is_no_count() {
        let slow_failure =
            with_delta(|delta| (delta.permit, delta.slow_failure) = (vec![0, 0, 0, 0, 0, 0, 1, 2], 1));
        let delta = first(slow_failure.unwrap());
        let result = ProbeResult { permit: PermitId(258), kind: OutcomeKind::Failure, slow: true };
        assert_eq!((delta.probes.as_slice(), delta.counts), ([result].as_slice(), Counts::default()));
    }

    #[test]
    fn all_that_is_said_of_one_circuit_stays_together() {
        let delta = |sequence| wire::OutcomeDelta { key: Some(wire_key()), sequence, ..Default::default() };
        let request = wire::SyncRequest {
            deltas: vec![delta(1), delta(2)],
            watch: vec![wire_key()],
            claims: vec![wire::Claim { key: Some(wire_key()), state: 1, ..Default::default() }],
            ..Default::default()
        };
        let heard = heard(request).unwrap();
        assert_eq!((heard.about.len(), heard.about[0].1.len()), (1, 4));
    }
}
