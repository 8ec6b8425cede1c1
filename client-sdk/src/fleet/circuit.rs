//! A circuit as those who set up and watch breakers see it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_core::breaker::fleet::{Counts, Epoch};
use tollgate_proto::tollgate::v1 as proto;
use tonic::Status;

use super::client::FleetClient;
use super::gate::{self, Gate};
use super::key::FleetKey;
use super::wire;
use crate::breaker::{FleetGate, FleetJoin, FleetMember};
use crate::clock::duration;
use crate::config::ConfigError;
use crate::state::State;

/// One circuit of a fleet: give it to [`CircuitBreakerBuilder::fleet`](crate::breaker::CircuitBreakerBuilder::fleet).
/// Keep a clone to watch it. Breakers with the same key in one client share a circuit.
#[derive(Clone, Debug)]
pub struct FleetCircuit {
    client: FleetClient,
    parts: [String; 4],
}

/// A circuit as this process sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct FleetSnapshot {
    /// The state that is followed; closed if none is.
    pub state: State,
    /// Which state of which server; the counter is 0 if none is followed.
    pub epoch: Epoch,
    /// The share of the calls that pass while recovering, `0.0..=1.0`.
    pub admit: f64,
    /// How long the server's word still holds.
    pub lease: Duration,
    /// Permits for probes that wait for a call.
    pub permits: u32,
    /// Counted since the last report.
    pub counts: Counts,
    /// Reports that the server has not acknowledged.
    pub unacknowledged: usize,
    /// The fleet says that the target is well, and yet a breaker of this process is open: the fault is
    /// probably here.
    pub local_fault: bool,
}

impl FleetSnapshot {
    /// Whether the server's word holds. If not, the local breakers rule alone.
    #[must_use]
    pub const fn is_led(&self) -> bool {
        !self.lease.is_zero()
    }
}

/// A circuit as its owner sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OwnerView {
    /// What it is doing.
    pub state: State,
    /// Which state of which server.
    pub epoch: Epoch,
    /// Why, for people.
    pub reason: String,
    /// Processes that reported within the window.
    pub reporters: u32,
    /// Calls within the window.
    pub calls: u64,
    /// Of these, failures.
    pub failures: u64,
    /// The owner blames this process: its calls fail, and those of the others do not.
    pub blames_us: bool,
    /// All processes that it blames.
    pub local_faults: Vec<Vec<u8>>,
}

impl FleetCircuit {
    /// A circuit that `client` takes part in.
    #[must_use]
    pub fn of(client: &FleetClient) -> FleetCircuit {
        FleetCircuit { client: client.clone(), parts: Default::default() }
    }

    /// Whose circuit it is (a team, an environment), and what is called (a service). Neither may be empty.
    #[must_use]
    pub fn key(mut self, namespace: impl Into<String>, target: impl Into<String>) -> FleetCircuit {
        let [_, _, shard, operation] = self.parts;
        self.parts = [namespace.into(), target.into(), shard, operation];
        self
    }

    /// Which part of the target, if they fail apart. Default: all.
    #[must_use]
    pub fn shard(mut self, shard: impl Into<String>) -> FleetCircuit {
        self.parts[2] = shard.into();
        self
    }

    /// Which operations, if they fail apart. Default: all.
    #[must_use]
    pub fn operation(mut self, operation: impl Into<String>) -> FleetCircuit {
        self.parts[3] = operation.into();
        self
    }

    /// The circuit of a key that was read from a text.
    #[must_use]
    pub fn named(mut self, key: &FleetKey) -> FleetCircuit {
        self.parts = key.parts().map(str::to_owned);
        self
    }

    fn checked(&self) -> Result<FleetKey, ConfigError> {
        FleetKey::new(self.parts.each_ref().map(String::as_str))
    }

    fn gate(&self) -> Option<Arc<Gate>> {
        self.client.0.gate(&self.checked().ok()?)
    }

    /// What this process sees of it; `None` while no breaker uses it.
    #[must_use]
    pub fn snapshot(&self) -> Option<FleetSnapshot> {
        let gate = self.gate()?;
        let seen = gate.seen();
        let state = gate::state(seen.state);
        let well = state == State::Closed && !seen.lease.is_zero();
        let is_open = |state| matches!(state, State::Open | State::HalfOpen | State::Recovering);
        let local_fault = well && gate.breakers().iter().any(|breaker| is_open(breaker.state()));
        Some(FleetSnapshot {
            state,
            epoch: seen.epoch,
            admit: f64::from(seen.admit.basis_points()) / 10_000.0,
            lease: duration(seen.lease),
            permits: seen.permits,
            counts: seen.counts,
            unacknowledged: seen.unacknowledged,
            local_fault,
        })
    }

    /// The state that is followed, as a value to wait on; `None` while no breaker uses the circuit. It ends
    /// with the last breaker.
    #[must_use]
    pub fn subscribe(&self) -> Option<watch::Receiver<State>> {
        self.gate().map(|gate| gate.subscribe())
    }

    /// Asks the owner of the circuit about it, and whether it blames this process. Not for every call.
    ///
    /// # Errors
    /// The server cannot be asked; `NOT_FOUND` if nobody has reported lately; `INVALID_ARGUMENT` if the key
    /// makes no sense.
    pub async fn ask_owner(&self) -> Result<OwnerView, Status> {
        let key = self.checked().map_err(|why| Status::invalid_argument(why.to_string()))?;
        let request = proto::GetCircuitRequest { key: Some(key.to_wire()) };
        let circuit = self.client.0.service.clone().get_circuit(request).await?.into_inner();
        let state = owner_state(&circuit)
            .ok_or_else(|| Status::internal(format!("circuit.state is {}, which is none", circuit.state)))?;
        Ok(OwnerView {
            state,
            epoch: wire::from_epoch(circuit.epoch.as_ref()).unwrap_or_default(),
            blames_us: circuit.local_faults.iter().any(|id| id == self.client.reporter()),
            reason: circuit.reason,
            reporters: circuit.reporters,
            calls: circuit.calls,
            failures: circuit.failures,
            local_faults: circuit.local_faults,
        })
    }
}

fn owner_state(circuit: &proto::Circuit) -> Option<State> {
    let told =
        proto::Directive { state: circuit.state, metrics_only: circuit.metrics_only, ..Default::default() };
    wire::state(&told).ok().map(gate::state)
}

impl FleetJoin for FleetCircuit {
    fn join(&self, member: FleetMember) -> Result<Arc<dyn FleetGate>, ConfigError> {
        let gate = self.client.0.join(&self.checked()?, member)?;
        Ok(gate)
    }
}
