//! From values to messages.

use std::time::Duration;

use tollgate_core::breaker::fleet::{
    Directive, Evidence, FleetState, Override, OverrideMode, Permit, Reason, Share, Snapshot,
};
use tollgate_core::time::{Span, Time};
use tollgate_proto::tollgate::v1 as wire;

use super::key::Key;
use super::overrides::Forced;

/// A directive as a message. `would_open` is what a circuit that only tells would do.
pub(super) fn directive(key: &Key, directive: &Directive, would_open: bool, reason: &str) -> wire::Directive {
    let (state, metrics_only) = state(directive.state, would_open);
    let waits = matches!(directive.state, FleetState::Open);
    wire::Directive {
        key: Some(key.to_wire()),
        epoch: Some(epoch(directive.epoch)),
        state: state.into(),
        metrics_only,
        admit: ratio(directive.admit),
        probe_in: waits.then(|| duration(directive.probe_in)),
        lease: Some(duration(directive.lease)),
        report_interval: Some(duration(directive.report_interval)),
        permits: directive.permits.iter().map(permit).collect(),
        acknowledged: directive.ack.highest,
        reason: reason.to_owned(),
        acknowledged_earlier: directive.ack.earlier,
        attempt: directive.attempt,
        slow_after: directive.slow_after.map(duration),
        ask_probe: directive.ask_probe,
        config_version: directive.config_version,
    }
}

/// A permit as a message.
pub(super) fn permit(permit: &Permit) -> wire::ProbePermit {
    wire::ProbePermit { id: permit.id.0.to_be_bytes().to_vec(), ttl: Some(duration(permit.ttl)) }
}

/// What only the owner of a circuit knows besides its snapshot.
pub(super) struct Kept<'a> {
    pub(super) now: Time,
    pub(super) owner: &'a str,
    pub(super) local_faults: Vec<Vec<u8>>,
    pub(super) forced: Option<&'a Forced>,
}

/// A circuit as a message.
pub(super) fn circuit(key: &Key, seen: &Snapshot, kept: Kept<'_>) -> wire::Circuit {
    let (state, metrics_only) = state(seen.state, seen.would_open);
    wire::Circuit {
        key: Some(key.to_wire()),
        epoch: Some(epoch(seen.epoch)),
        state: state.into(),
        metrics_only,
        reason: seen.reason.as_ref().map(explain).unwrap_or_default(),
        in_state_for: Some(duration(kept.now - seen.since)),
        reporters: u32::try_from(seen.window.active).unwrap_or(u32::MAX),
        calls: seen.window.judged,
        failures: seen.window.bad,
        slow: seen.slow,
        admit: ratio(seen.admit),
        probe_in: (seen.state == FleetState::Open).then(|| duration(seen.remaining)),
        r#override: kept.forced.map(|forced| forced.to_wire(kept.now)),
        local_faults: kept.local_faults,
        owner: kept.owner.to_owned(),
    }
}

/// A circuit for people.
pub(super) fn page(circuit: &wire::Circuit) -> serde_json::Value {
    let seconds = |duration: Option<prost_types::Duration>| {
        duration.map(|duration| duration.seconds as f64 + f64::from(duration.nanos) / 1e9)
    };
    let key = circuit.key.clone().unwrap_or_default();
    let forced = circuit.r#override.as_ref().map(|forced| {
        serde_json::json!({
            "mode": forced.mode().as_str_name(),
            "ttl_seconds": seconds(forced.ttl),
            "actor": forced.actor,
            "reason": forced.reason,
        })
    });
    serde_json::json!({
        "namespace": key.namespace,
        "target": key.target,
        "shard": key.shard,
        "operation": key.operation,
        "state": circuit.state().as_str_name().trim_start_matches("CIRCUIT_STATE_").to_ascii_lowercase(),
        "metrics_only": circuit.metrics_only,
        "epoch": circuit.epoch.map(|epoch| [epoch.incarnation, epoch.counter]),
        "reason": circuit.reason,
        "in_state_for_seconds": seconds(circuit.in_state_for),
        "reporters": circuit.reporters,
        "calls": circuit.calls,
        "failures": circuit.failures,
        "admit": circuit.admit,
        "probe_in_seconds": seconds(circuit.probe_in),
        "override": forced,
        "local_faults": circuit.local_faults.iter().map(|id| String::from_utf8_lossy(id)).collect::<Vec<_>>(),
    })
}

/// A state, and whether nobody obeys it.
fn state(state: FleetState, would_open: bool) -> (wire::CircuitState, bool) {
    match state {
        FleetState::Closed => (wire::CircuitState::Closed, false),
        FleetState::Open => (wire::CircuitState::Open, false),
        FleetState::HalfOpen => (wire::CircuitState::HalfOpen, false),
        FleetState::Recovering => (wire::CircuitState::Recovering, false),
        FleetState::ForcedOpen => (wire::CircuitState::ForcedOpen, false),
        FleetState::Disabled => (wire::CircuitState::Disabled, false),
        FleetState::MetricsOnly if would_open => (wire::CircuitState::Open, true),
        FleetState::MetricsOnly => (wire::CircuitState::Closed, true),
    }
}

/// Every state by the name that metrics and logs have for it.
pub(super) const STATES: [(FleetState, &str); 7] = [
    (FleetState::Closed, "closed"),
    (FleetState::Open, "open"),
    (FleetState::HalfOpen, "half_open"),
    (FleetState::Recovering, "recovering"),
    (FleetState::ForcedOpen, "forced_open"),
    (FleetState::Disabled, "disabled"),
    (FleetState::MetricsOnly, "metrics_only"),
];

/// The name of a state.
pub(super) fn state_name(state: FleetState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("unknown", |(_, name)| name)
}

/// The name of a reason.
pub(super) const fn reason_name(reason: &Reason) -> &'static str {
    match reason {
        Reason::FailureRate(_) => "failure_rate",
        Reason::ShortFailureRate(_) => "short_failure_rate",
        Reason::SlowRate(_) => "slow_rate",
        Reason::WaitOver => "wait_over",
        Reason::ProbesPassed => "probes_passed",
        Reason::ProbesFailed => "probes_failed",
        Reason::NoVerdict => "no_verdict",
        Reason::RampFailed(_) => "ramp_failed",
        Reason::Recovered => "recovered",
        Reason::Manual => "manual",
        Reason::OverrideExpired => "override_expired",
        Reason::Adopted => "adopted",
        Reason::Configured => "configured",
    }
}

/// A reason in words.
pub(super) fn explain(reason: &Reason) -> String {
    let share = |what: &str, window: &str, evidence: &Evidence| {
        let Evidence { judged, bad, active, over } = evidence;
        format!("{bad} of {judged} calls {what} within {window}; {over} of {active} reporters see it")
    };
    match reason {
        Reason::FailureRate(evidence) => share("failed", "the window", evidence),
        Reason::ShortFailureRate(evidence) => share("failed", "the short window", evidence),
        Reason::SlowRate(evidence) => share("were slow", "the window", evidence),
        Reason::RampFailed(evidence) => share("failed", "the recovery", evidence),
        Reason::WaitOver => "the wait is over".to_owned(),
        Reason::ProbesPassed => "enough probes were good".to_owned(),
        Reason::ProbesFailed => "too many probes were bad".to_owned(),
        Reason::NoVerdict => "too few probes came back".to_owned(),
        Reason::Recovered => "the target copes with all calls".to_owned(),
        Reason::Manual => "set by hand".to_owned(),
        Reason::OverrideExpired => "what was set by hand has ended".to_owned(),
        Reason::Adopted => "taken over from another server".to_owned(),
        Reason::Configured => "the configuration has changed".to_owned(),
    }
}

fn epoch(epoch: tollgate_core::breaker::fleet::Epoch) -> wire::Epoch {
    wire::Epoch { incarnation: epoch.incarnation, counter: epoch.counter }
}

fn ratio(share: Share) -> f64 {
    f64::from(share.basis_points()) / 10_000.0
}

/// A time as a message has it.
pub(super) fn duration(span: Span) -> prost_types::Duration {
    // a span has at most 2^53 microseconds: it always fits
    prost_types::Duration::try_from(Duration::from_micros(span.as_micros())).unwrap_or_default()
}

/// What a client that was told `directive` some time ago believes now; `None` if its lease is over.
pub(super) fn claim(directive: &wire::Directive, ago: Span) -> Option<wire::Claim> {
    let left = |duration: Option<prost_types::Duration>| {
        let whole = Duration::try_from(duration?).ok()?;
        whole.checked_sub(Duration::from_micros(ago.as_micros()))
    };
    let lease = left(directive.lease)?;
    // what is only told holds nobody back
    let state = if directive.metrics_only { wire::CircuitState::Closed.into() } else { directive.state };
    let to_wire = |duration| prost_types::Duration::try_from(duration).ok();
    Some(wire::Claim {
        key: directive.key.clone(),
        epoch: directive.epoch,
        state,
        remaining: left(directive.probe_in).and_then(to_wire),
        admit: directive.admit,
        lease: to_wire(lease),
        attempt: directive.attempt,
    })
}

/// What the core knows an override as.
pub(super) fn core_override(mode: OverrideMode, ttl: Span, forced: &Forced) -> Override {
    Override { mode, ttl, actor: forced.actor.clone(), reason: forced.reason.clone() }
}

#[cfg(test)]
mod tests {
    use tollgate_core::breaker::fleet::{Epoch, PermitId};

    use super::*;

    fn key() -> Key {
        Key::new(["n", "t", "", ""]).unwrap()
    }

    fn directive_in(state: FleetState, would_open: bool) -> wire::Directive {
        let directive = Directive {
            epoch: Epoch { incarnation: 3, counter: 4 },
            state,
            admit: Share::percent(35),
            probe_in: Span::from_secs(2),
            lease: Span::from_secs(10),
            permits: [Permit { id: PermitId(258), ttl: Span::SECOND }].into_iter().collect(),
            ..Directive::default()
        };
        super::directive(&key(), &directive, would_open, "why")
    }

    #[test]
    fn a_directive_says_what_to_do_in_each_state() {
        let open = directive_in(FleetState::Open, false);
        assert_eq!((open.state(), open.metrics_only, open.admit), (wire::CircuitState::Open, false, 0.35));
        assert_eq!(open.probe_in.unwrap().seconds, 2);
        assert_eq!(open.permits[0].id, [0, 0, 0, 0, 0, 0, 1, 2]);
        let recovering = directive_in(FleetState::Recovering, false);
        assert_eq!((recovering.state(), recovering.probe_in), (wire::CircuitState::Recovering, None));
    }

    #[test]
    fn a_circuit_that_only_tells_tells_what_it_would_do() {
        for (would_open, state) in [(true, wire::CircuitState::Open), (false, wire::CircuitState::Closed)] {
            let told = directive_in(FleetState::MetricsOnly, would_open);
            assert_eq!((told.state(), told.metrics_only), (state, true));
        }
    }

    #[test]
    fn a_claim_ages_and_ends_with_its_lease() {
        let told = directive_in(FleetState::Open, false);
        let held = claim(&told, Span::from_millis(500)).unwrap();
        assert_eq!((held.state(), held.epoch), (wire::CircuitState::Open, told.epoch));
        assert_eq!(held.remaining.unwrap(), prost_types::Duration { seconds: 1, nanos: 500_000_000 });
        assert_eq!(claim(&told, Span::from_secs(5)).unwrap().remaining, None);
        assert_eq!(claim(&told, Span::from_secs(11)), None);
        let only_told = directive_in(FleetState::MetricsOnly, true);
        assert_eq!(claim(&only_told, Span::ZERO).unwrap().state(), wire::CircuitState::Closed);
    }

    #[test]
    fn every_state_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            STATES.iter().map(|(state, _)| state_name(*state)).collect();
        assert_eq!(names.len(), STATES.len());
    }
}
