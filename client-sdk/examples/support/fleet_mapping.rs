//! Between messages and the values of the core, as a server reads and writes them.

use std::time::Duration;

use tollgate_core::breaker::fleet::{
    CircuitKey, Claim, Counts, Delta, Directive, Epoch, FleetState, OutcomeKind, Permit, PermitId,
    ProbeResult, ReporterId, Share, Snapshot,
};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as proto;
use tonic::Status;

pub(super) type Key = CircuitKey;

pub(super) fn key(namespace: &str, target: &str) -> Key {
    CircuitKey::of(namespace, target)
}

pub(super) fn key_of(key: &proto::CircuitKey) -> Key {
    let part = |part: &str| (!part.is_empty()).then(|| part.into());
    CircuitKey {
        shard: part(&key.shard),
        operation: part(&key.operation),
        ..CircuitKey::of(&key.namespace, &key.target)
    }
}

fn key_to_wire(key: &Key) -> proto::CircuitKey {
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    proto::CircuitKey {
        namespace: key.namespace.to_string(),
        target: key.target.to_string(),
        shard: text(key.shard.as_deref()),
        operation: text(key.operation.as_deref()),
    }
}

pub(super) fn reporter(reporter: &proto::Reporter) -> ReporterId {
    // FNV-1a, 64 bits
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    ReporterId(reporter.id.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field} is missing"))
}

pub(super) fn delta(delta: &proto::OutcomeDelta) -> Result<(Key, Delta), Status> {
    let key = key_of(delta.key.as_ref().ok_or_else(|| missing("delta.key"))?);
    if delta.sequence == 0 {
        return Err(missing("delta.sequence"));
    }
    let counts = Counts {
        success: delta.success,
        failure: delta.failure,
        slow_success: delta.slow_success,
        slow_failure: delta.slow_failure,
        ignored: delta.ignored,
        not_permitted: delta.not_permitted,
    };
    let base = Delta {
        sequence: delta.sequence,
        epoch: epoch(delta.epoch),
        age: span(delta.age).unwrap_or_default(),
        retry_after: span(delta.retry_after),
        median: span(delta.typical),
        ..Delta::default()
    };
    let with = if delta.permit.is_empty() {
        Delta { counts, ..base }
    } else {
        Delta { probes: [probe(&delta.permit, &counts)?].into_iter().collect(), ..base }
    };
    Ok((key, with))
}

fn probe(permit: &[u8], counts: &Counts) -> Result<ProbeResult, Status> {
    let id: [u8; 8] = permit.try_into().map_err(|_| Status::invalid_argument("permit is none of ours"))?;
    if counts.judged() + counts.ignored != 1 || counts.not_permitted != 0 {
        return Err(Status::invalid_argument("permit is the outcome of one call"));
    }
    let kind = match (counts.ignored, counts.failures()) {
        (1, _) => OutcomeKind::Ignored,
        (_, 1) => OutcomeKind::Failure,
        _ => OutcomeKind::Success,
    };
    Ok(ProbeResult { permit: PermitId(u64::from_be_bytes(id)), kind, slow: counts.slow() == 1 })
}

pub(super) fn claim(claim: &proto::Claim) -> Result<(Key, Claim), Status> {
    let state = match claim.state() {
        proto::CircuitState::Unspecified => return Err(missing("claim.state")),
        proto::CircuitState::Closed => FleetState::Closed,
        proto::CircuitState::Open => FleetState::Open,
        proto::CircuitState::HalfOpen => FleetState::HalfOpen,
        proto::CircuitState::Recovering => FleetState::Recovering,
        proto::CircuitState::ForcedOpen => FleetState::ForcedOpen,
        proto::CircuitState::Disabled => FleetState::Disabled,
    };
    let held = Claim {
        state,
        epoch: epoch(claim.epoch),
        remaining: span(claim.remaining).unwrap_or_default(),
        admit: share(claim.admit),
        attempt: claim.attempt,
    };
    Ok((key_of(claim.key.as_ref().ok_or_else(|| missing("claim.key"))?), held))
}

pub(super) fn directive(key: &Key, told: &Directive) -> proto::Directive {
    let (state, metrics_only) = state(told.state);
    proto::Directive {
        key: Some(key_to_wire(key)),
        epoch: Some(proto::Epoch { incarnation: told.epoch.incarnation, counter: told.epoch.counter }),
        state: state.into(),
        metrics_only,
        admit: f64::from(told.admit.basis_points()) / 10_000.0,
        probe_in: (told.state == FleetState::Open).then(|| to_wire(told.probe_in)),
        lease: Some(to_wire(told.lease)),
        report_interval: Some(to_wire(told.report_interval)),
        permits: told.permits.iter().map(permit).collect(),
        acknowledged: told.ack.highest,
        reason: String::new(),
        acknowledged_earlier: told.ack.earlier,
        attempt: told.attempt,
        slow_after: told.slow_after.map(to_wire),
        ask_probe: told.ask_probe,
        config_version: told.config_version,
    }
}

pub(super) fn permit(permit: &Permit) -> proto::ProbePermit {
    proto::ProbePermit { id: permit.id.0.to_be_bytes().to_vec(), ttl: Some(to_wire(permit.ttl)) }
}

pub(super) fn circuit(key: &Key, seen: &Snapshot, local_faults: Vec<Vec<u8>>) -> proto::Circuit {
    let (state, metrics_only) = state(seen.state);
    proto::Circuit {
        key: Some(key_to_wire(key)),
        epoch: Some(proto::Epoch { incarnation: seen.epoch.incarnation, counter: seen.epoch.counter }),
        state: state.into(),
        metrics_only,
        reporters: u32::try_from(seen.window.active).unwrap_or(u32::MAX),
        calls: seen.window.judged,
        failures: seen.window.bad,
        local_faults,
        ..proto::Circuit::default()
    }
}

fn state(state: FleetState) -> (proto::CircuitState, bool) {
    match state {
        FleetState::Closed => (proto::CircuitState::Closed, false),
        FleetState::Open => (proto::CircuitState::Open, false),
        FleetState::HalfOpen => (proto::CircuitState::HalfOpen, false),
        FleetState::Recovering => (proto::CircuitState::Recovering, false),
        FleetState::ForcedOpen => (proto::CircuitState::ForcedOpen, false),
        FleetState::Disabled => (proto::CircuitState::Disabled, false),
        FleetState::MetricsOnly => (proto::CircuitState::Closed, true),
    }
}

fn epoch(epoch: Option<proto::Epoch>) -> Epoch {
    let proto::Epoch { incarnation, counter } = epoch.unwrap_or_default();
    Epoch { incarnation, counter }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 to 10 000")]
fn share(ratio: f64) -> Share {
    Share::from_basis_points((ratio.clamp(0.0, 1.0) * 10_000.0).round() as u16)
}

fn span(time: Option<prost_types::Duration>) -> Option<Span> {
    let time = Duration::try_from(time?).ok()?;
    Some(Span::from_wide(time.as_micros()))
}

fn to_wire(time: Span) -> prost_types::Duration {
    prost_types::Duration::try_from(Duration::from_micros(time.as_micros())).unwrap_or_default()
}
