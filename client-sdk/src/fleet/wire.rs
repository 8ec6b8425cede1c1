//! Between the messages of `tollgate.v1.CircuitBreakers` and what a view of a circuit knows.
//!
//! One delta of a view can need several messages: the outcomes of calls under the epoch in force, those of
//! earlier epochs, and one for each probe. Each message has a number of its own, so a view's sequence and the
//! numbers on the wire differ; [`Numbers`] keeps them together.

use std::collections::VecDeque;
use std::time::Duration;

use tollgate_core::breaker::fleet::{
    Ack, Counts, Delta, Directive, Epoch, FleetState, OutcomeKind, Permit, PermitId, ProbeResult, Share,
    ViewSnapshot,
};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as proto;

use super::key::FleetKey;
use crate::clock::{duration, span};

/// A directive that makes no sense.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Senseless {
    #[error("directive.epoch is missing")]
    Epoch,
    #[error("directive.state is {0}, must be a state of a circuit")]
    State(i32),
    #[error("directive.admit is {0}, must be from 0 to 1")]
    Admit(String),
    #[error("directive.{0} is negative or no duration")]
    Duration(&'static str),
    #[error("directive.lease is missing")]
    Lease,
    #[error("directive.permits: an id has {0} bytes, must have 8")]
    Permit(usize),
}

/// Which numbers on the wire the deltas of one view have that are not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: u64,
    waiting: VecDeque<Numbered>,
    settled: Ack,
    epoch: Epoch,
    previous: Epoch,
}

#[derive(Debug)]
struct Numbered {
    sequence: u64,
    first: u64,
    last: u64,
}

impl Numbers {
    /// Numbers above `last`.
    pub(super) fn above(last: u64) -> Numbers {
        Numbers { last, ..Numbers::default() }
    }

    /// The highest one that was used.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// The first number of the delta `sequence`, which needs `messages`. A delta that is sent again keeps its.
    fn first(&mut self, sequence: u64, messages: usize) -> u64 {
        if let Some(known) = self.waiting.iter().find(|known| known.sequence == sequence) {
            return known.first;
        }
        let first = self.last + 1;
        self.last += messages as u64;
        self.waiting.push_back(Numbered { sequence, first, last: self.last });
        first
    }

    /// What the view is to be told when the server has counted the numbers in `counted`. A delta has arrived
    /// when all of its messages have.
    pub(super) fn acknowledge(&mut self, counted: Ack) -> Ack {
        let settled = &mut self.settled;
        self.waiting.retain(|numbered| {
            let arrived = (numbered.first..=numbered.last).all(|number| counted.covers(number));
            if arrived {
                // one that was told before stays told
                let _fresh = settled.insert(numbered.sequence);
            }
            !arrived
        });
        self.settled
    }

    /// The view follows `epoch` from now on.
    pub(super) fn follow(&mut self, epoch: Epoch) {
        if epoch != self.epoch {
            (self.previous, self.epoch) = (self.epoch, epoch);
        }
    }

    /// An epoch before `epoch`, for outcomes that are late.
    fn before(&self, epoch: Epoch) -> Epoch {
        if epoch == self.epoch { self.previous } else { self.epoch }
    }
}

/// The messages that tell of `delta`.
pub(super) fn deltas(key: &FleetKey, delta: &Delta, numbers: &mut Numbers) -> Vec<proto::OutcomeDelta> {
    let base = proto::OutcomeDelta {
        key: Some(key.to_wire()),
        epoch: Some(epoch(delta.epoch)),
        age: Some(to_wire(delta.age)),
        ..proto::OutcomeDelta::default()
    };
    let mut messages = Vec::with_capacity(1 + delta.probes.len());
    let only_others = !delta.probes.is_empty() || !delta.late.is_empty();
    if !delta.counts.is_empty() || !only_others {
        let typical = delta.median.map(to_wire);
        messages.push(proto::OutcomeDelta { typical, ..counted(&base, &delta.counts) });
    }
    messages.extend(delta.probes.iter().map(|result| probe(&base, result)));
    if !delta.late.is_empty() {
        let earlier = Some(epoch(numbers.before(delta.epoch)));
        messages.push(proto::OutcomeDelta { epoch: earlier, ..counted(&base, &delta.late) });
    }
    if let Some(first) = messages.first_mut() {
        first.retry_after = delta.retry_after.map(to_wire);
    }
    let first = numbers.first(delta.sequence, messages.len());
    for (message, number) in messages.iter_mut().zip(first..) {
        message.sequence = number;
    }
    messages
}

fn counted(base: &proto::OutcomeDelta, counts: &Counts) -> proto::OutcomeDelta {
    proto::OutcomeDelta {
        success: counts.success,
        failure: counts.failure,
        slow_success: counts.slow_success,
        slow_failure: counts.slow_failure,
        ignored: counts.ignored,
        not_permitted: counts.not_permitted,
        ..base.clone()
    }
}

fn probe(base: &proto::OutcomeDelta, result: &ProbeResult) -> proto::OutcomeDelta {
    let mut counts = Counts::default();
    let one = match (result.kind, result.slow) {
        (OutcomeKind::Success, false) => &mut counts.success,
        (OutcomeKind::Success, true) => &mut counts.slow_success,
        (OutcomeKind::Failure, false) => &mut counts.failure,
        (OutcomeKind::Failure, true) => &mut counts.slow_failure,
        (OutcomeKind::Ignored, _) => &mut counts.ignored,
    };
    *one = 1;
    proto::OutcomeDelta { permit: result.permit.0.to_be_bytes().to_vec(), ..counted(base, &counts) }
}

/// What a reporter that follows `seen` believes; `open` is what is left of the wait. `None` without a lease.
pub(super) fn claim(key: &FleetKey, seen: &ViewSnapshot, open: Span) -> Option<proto::Claim> {
    if seen.epoch == Epoch::default() || seen.lease.is_zero() {
        return None;
    }
    let state = match seen.state {
        // a state that is only told holds nobody back
        FleetState::Closed | FleetState::MetricsOnly => proto::CircuitState::Closed,
        FleetState::Open => proto::CircuitState::Open,
        FleetState::HalfOpen => proto::CircuitState::HalfOpen,
        FleetState::Recovering => proto::CircuitState::Recovering,
        FleetState::ForcedOpen => proto::CircuitState::ForcedOpen,
        FleetState::Disabled => proto::CircuitState::Disabled,
    };
    Some(proto::Claim {
        key: Some(key.to_wire()),
        epoch: Some(epoch(seen.epoch)),
        state: state.into(),
        remaining: (seen.state == FleetState::Open).then(|| to_wire(open)),
        admit: f64::from(seen.admit.basis_points()) / 10_000.0,
        lease: Some(to_wire(seen.lease)),
        attempt: seen.attempt,
    })
}

/// Reads a directive. `ack` is for the view, `ask` whether permits may be asked for one by one.
///
/// # Errors
/// A field of it makes no sense.
pub(super) fn directive(directive: &proto::Directive, ack: Ack, ask: bool) -> Result<Directive, Senseless> {
    let state = state(directive)?;
    let permits = directive.permits.iter().map(permit).collect::<Result<_, _>>()?;
    let read = |field, value| from_wire(value).map_err(|()| Senseless::Duration(field));
    Ok(Directive {
        epoch: from_epoch(directive.epoch.as_ref()).ok_or(Senseless::Epoch)?,
        state,
        admit: share(directive.admit)?,
        probe_in: read("probe_in", directive.probe_in)?.unwrap_or_default(),
        attempt: directive.attempt,
        lease: read("lease", directive.lease)?.ok_or(Senseless::Lease)?,
        report_interval: read("report_interval", directive.report_interval)?.unwrap_or(Span::SECOND),
        slow_after: read("slow_after", directive.slow_after)?,
        permits,
        ask_probe: ask && directive.ask_probe,
        ack,
        config_version: directive.config_version,
    })
}

/// Which numbers the server has counted.
pub(super) const fn counted_by(directive: &proto::Directive) -> Ack {
    Ack { highest: directive.acknowledged, earlier: directive.acknowledged_earlier }
}

/// The state that a directive tells.
///
/// # Errors
/// It is none that is known.
pub(super) fn state(directive: &proto::Directive) -> Result<FleetState, Senseless> {
    let known = proto::CircuitState::try_from(directive.state);
    let state = match known.map_err(|_| Senseless::State(directive.state))? {
        proto::CircuitState::Unspecified => return Err(Senseless::State(directive.state)),
        proto::CircuitState::Closed => FleetState::Closed,
        proto::CircuitState::Open => FleetState::Open,
        proto::CircuitState::HalfOpen => FleetState::HalfOpen,
        proto::CircuitState::Recovering => FleetState::Recovering,
        proto::CircuitState::ForcedOpen => FleetState::ForcedOpen,
        proto::CircuitState::Disabled => FleetState::Disabled,
    };
    Ok(if directive.metrics_only { FleetState::MetricsOnly } else { state })
}

fn permit(permit: &proto::ProbePermit) -> Result<Permit, Senseless> {
    let id: [u8; 8] = permit.id.as_slice().try_into().map_err(|_| Senseless::Permit(permit.id.len()))?;
    let ttl = from_wire(permit.ttl).map_err(|()| Senseless::Duration("permits.ttl"))?;
    Ok(Permit { id: PermitId(u64::from_be_bytes(id)), ttl: ttl.unwrap_or_default() })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 to 10 000")]
fn share(ratio: f64) -> Result<Share, Senseless> {
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Senseless::Admit(ratio.to_string()));
    }
    Ok(Share::from_basis_points((ratio * 10_000.0).round() as u16))
}

/// Reads which life of a circuit.
pub(super) fn from_epoch(epoch: Option<&proto::Epoch>) -> Option<Epoch> {
    epoch.map(|epoch| Epoch { incarnation: epoch.incarnation, counter: epoch.counter })
}

const fn epoch(epoch: Epoch) -> proto::Epoch {
    proto::Epoch { incarnation: epoch.incarnation, counter: epoch.counter }
}

fn from_wire(time: Option<prost_types::Duration>) -> Result<Option<Span>, ()> {
    time.map(|time| Duration::try_from(time).map(span).map_err(drop)).transpose()
}

fn to_wire(time: Span) -> prost_types::Duration {
    // 2^53 microseconds always fit
    prost_types::Duration::try_from(duration(time)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
