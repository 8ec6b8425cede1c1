//! The peers, driven by vectors.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use failsafe::clock::MockClock;
use failsafe::{FailurePolicy, StateMachine, backoff, failure_policy};
use recloser::AsyncRecloser;
use tower::Service;
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, CircuitState, DefaultClassifier,
    SlidingWindowType,
};

use crate::real_time::{Gate, Pace, Running, finish, now, start};
use crate::script::{Vector, fraction, micros, number};

/// A breaker that a vector can be run on.
pub trait Peer: Sized {
    /// A call in flight.
    type Held;
    /// Starts a call; `None` if it is refused.
    fn admit(&mut self) -> Option<Self::Held>;
    /// Ends a call that took so many microseconds.
    fn end(&mut self, held: Self::Held, failed: bool, took: u64);
    /// Ends a call that says nothing.
    fn ignore(&mut self, held: Self::Held) {
        drop(held);
    }
    /// Whether this is the mode, if that can be seen.
    fn is(&mut self, mode: &str) -> Option<bool>;
    /// Lets microseconds pass.
    fn advance(&mut self, micros: u64);
    /// Calls, failures, slow calls while it is closed.
    fn counts(&mut self) -> Option<[u64; 3]> {
        None
    }
    /// Carries out an order, if it knows it.
    fn order(&mut self, _order: &str) -> bool {
        false
    }
}

fn get<'v>(vector: &'v Vector, key: &str) -> Option<&'v str> {
    vector.config.get(key).map(String::as_str)
}

/// The settings that do not matter in this vector are left out: slow calls if none is timed, probes if it
/// never waits.
fn check(vector: &Vector, known: &[&str]) -> Result<(), String> {
    let says =
        |what: &dyn Fn(&str) -> bool| vector.steps.iter().flat_map(|(_, words)| words).any(|word| what(word));
    let timed = says(&|word| word.contains('@'));
    let waits = waits(vector);
    for key in vector.config.keys().map(String::as_str) {
        let idle = match key {
            "slow" => !timed,
            "probes" | "need" => !waits || get(vector, key) == Some("1"),
            _ => false,
        };
        if !idle && !known.contains(&key) {
            return Err(format!("no setting for {key}"));
        }
    }
    Ok(())
}

/// Whether the end of a wait can matter: not if somebody orders the mode.
fn waits(vector: &Vector) -> bool {
    let first = |what: &str| vector.steps.iter().any(|(_, words)| words[0].starts_with(what));
    first("+") && !first("order")
}

fn share(text: &str) -> f64 {
    let (part, of) = fraction(text);
    f64::from(part) / f64::from(of)
}

fn wait(vector: &Vector) -> Duration {
    Duration::from_micros(get(vector, "wait").map_or(60_000_000, micros))
}

trait Machine {
    fn permitted(&self) -> bool;
    fn success(&self);
    fn error(&self);
    fn state(&self) -> String;
}

impl<P: FailurePolicy + 'static> Machine for failsafe::StateMachine<P, ()> {
    fn permitted(&self) -> bool {
        self.is_call_permitted()
    }

    fn success(&self) {
        self.on_success();
    }

    fn error(&self) {
        self.on_error();
    }

    fn state(&self) -> String {
        format!("{self:?}")
    }
}

/// failsafe, in its frozen clock.
pub struct Failsafe<'c> {
    machine: Box<dyn Machine>,
    clock: &'c mut MockClock,
}

impl<'c> Failsafe<'c> {
    /// With the settings of the vector, or what is missing.
    pub fn make(vector: &Vector, clock: &'c mut MockClock) -> Result<Failsafe<'c>, String> {
        check(vector, &["consecutive", "rate", "time", "min", "wait", "mult", "cap", "on"])?;
        let (wait, cap) = (wait(vector), Duration::from_micros(get(vector, "cap").map_or(0, micros)));
        let machine: Box<dyn Machine> =
            match (get(vector, "consecutive"), get(vector, "rate"), get(vector, "mult")) {
                (Some(n), None, None) => Box::new(StateMachine::new(
                    failure_policy::consecutive_failures(number(n), backoff::constant(wait)),
                    (),
                )),
                (Some(n), None, Some("2000")) => Box::new(StateMachine::new(
                    failure_policy::consecutive_failures(number(n), backoff::exponential(wait, cap)),
                    (),
                )),
                (None, Some(rate), None) => {
                    let time = get(vector, "time").ok_or("no window of counts")?;
                    let length = Duration::from_micros(micros(time.split('/').next().unwrap_or(time)));
                    let minimum = get(vector, "min").map_or(1, number);
                    let wait = backoff::constant(wait);
                    let policy = failure_policy::success_rate_over_time_window(
                        1.0 - share(rate),
                        minimum,
                        length,
                        wait,
                    );
                    Box::new(StateMachine::new(policy, ()))
                }
                _ => return Err("no such rule or growth".to_owned()),
            };
        Ok(Failsafe { machine, clock })
    }
}

impl Peer for Failsafe<'_> {
    type Held = ();

    fn admit(&mut self) -> Option<()> {
        // no two calls at one instant: its moving average weighs by the time between them
        self.clock.advance(Duration::from_micros(1));
        self.machine.permitted().then_some(())
    }

    fn end(&mut self, (): (), failed: bool, _took: u64) {
        if failed { self.machine.error() } else { self.machine.success() }
    }

    fn is(&mut self, mode: &str) -> Option<bool> {
        let name = match mode {
            "Closed" => "\"closed\"",
            "Open" => "\"open\"",
            "HalfOpen" => "\"half_open\"",
            _ => return None,
        };
        Some(self.machine.state().contains(name))
    }

    fn advance(&mut self, micros: u64) {
        self.clock.advance(Duration::from_micros(micros));
    }
}

/// recloser, in real time.
pub struct Recloser {
    breaker: AsyncRecloser,
    pace: Pace,
}

impl Recloser {
    /// With the settings of the vector, or what is missing.
    pub fn make(vector: &Vector) -> Result<Recloser, String> {
        check(vector, &["rate", "failures", "count", "min", "wait", "probes"])?;
        let pace = Pace::of(vector)?;
        let size: usize = get(vector, "count").map(number).ok_or("no window of time")?;
        if get(vector, "rate").is_some() && get(vector, "min").map(number) != Some(size) {
            return Err("no minimum below the window".to_owned());
        }
        let rate = match (get(vector, "rate"), get(vector, "failures")) {
            (Some(rate), None) => share(rate),
            (None, Some(n)) => number::<f64>(n) / size as f64,
            _ => return Err("no such rule".to_owned()),
        };
        let breaker = recloser::Recloser::custom()
            .error_rate(rate as f32)
            .closed_len(size)
            .half_open_len(get(vector, "probes").map_or(1, number))
            .open_wait(pace.scaled(get(vector, "wait").map_or(60_000_000, micros)))
            .build();
        Ok(Recloser { breaker: AsyncRecloser::from(breaker), pace })
    }
}

impl Peer for Recloser {
    type Held = (Gate, Running<recloser::Error<std::fmt::Error>>);

    fn admit(&mut self) -> Option<Self::Held> {
        let gate = Gate::default();
        start(gate.clone(), Box::pin(self.breaker.call(gate)))
    }

    fn end(&mut self, held: Self::Held, failed: bool, took: u64) {
        self.pace.sleep(took);
        finish(held, failed);
    }

    /// It shows no mode: whether it admits is all there is to see.
    fn is(&mut self, mode: &str) -> Option<bool> {
        match mode {
            "Closed" | "HalfOpen" => Some(self.admit().is_some()),
            "Open" => Some(self.admit().is_none()),
            _ => None,
        }
    }

    fn advance(&mut self, micros: u64) {
        self.pace.sleep(micros);
    }
}

/// The service inside: each request is the gate of its call.
#[derive(Clone)]
pub struct Gated;

impl Service<Gate> for Gated {
    type Response = ();
    type Error = std::fmt::Error;
    type Future = Gate;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, gate: Gate) -> Gate {
        gate
    }
}

/// tower-resilience, in real time.
pub struct TowerResilience {
    service: CircuitBreaker<Gated, DefaultClassifier>,
    pace: Pace,
}

impl TowerResilience {
    /// With the settings of the vector, or what is missing.
    pub fn make(vector: &Vector) -> Result<TowerResilience, String> {
        let known = ["rate", "slow", "consecutive", "count", "time", "min", "wait", "probes", "need"];
        check(vector, &known)?;
        let pace = Pace::of(vector)?;
        let probes = get(vector, "probes").unwrap_or("1");
        let rates = get(vector, "rate").is_some() || get(vector, "slow").is_some();
        let all = if rates { probes == "1" } else { get(vector, "need").unwrap_or(probes) == probes };
        if waits(vector) && !all {
            return Err("all probes have to succeed".to_owned());
        }
        let size = get(vector, "count").map_or(100, number);
        let mut builder = CircuitBreakerLayer::builder()
            .sliding_window_size(size)
            .minimum_number_of_calls(get(vector, "min").map_or(1, number))
            .permitted_calls_in_half_open(number(probes))
            .wait_duration_in_open(pace.scaled(get(vector, "wait").map_or(60_000_000, micros)));
        if let Some(time) = get(vector, "time") {
            let length = micros(time.split('/').next().unwrap_or(time));
            builder = builder
                .sliding_window_type(SlidingWindowType::TimeBased)
                .sliding_window_duration(pace.scaled(length));
        }
        if let Some(rate) = get(vector, "rate") {
            builder = builder.failure_rate_threshold(share(rate));
        }
        if let Some((duration, rate)) = get(vector, "slow").and_then(|slow| slow.split_once('@')) {
            let duration = pace.scaled(micros(duration));
            builder = builder.slow_call_duration_threshold(duration).slow_call_rate_threshold(share(rate));
        }
        if let Some(n) = get(vector, "consecutive") {
            builder = builder.consecutive_failures(number(n));
        }
        if vector.steps.iter().any(|(_, words)| words[0] == "order") {
            builder = builder.manual_mode();
        }
        let layer = builder.build().map_err(|error| error.to_string())?;
        Ok(TowerResilience { service: layer.layer_fn(Gated), pace })
    }
}

impl Peer for TowerResilience {
    type Held = (Gate, Running<CircuitBreakerError<std::fmt::Error>>);

    fn admit(&mut self) -> Option<Self::Held> {
        let ready = self.service.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(ready.is_ready(), "ready without backpressure");
        let gate = Gate::default();
        start(gate.clone(), Box::pin(self.service.call(gate)))
    }

    fn end(&mut self, held: Self::Held, failed: bool, took: u64) {
        self.pace.sleep(took);
        finish(held, failed);
    }

    fn is(&mut self, mode: &str) -> Option<bool> {
        let expected = match mode {
            "Closed" => CircuitState::Closed,
            "Open" | "ForcedOpen" => CircuitState::Open,
            "HalfOpen" => CircuitState::HalfOpen,
            _ => return None,
        };
        Some(self.service.state_sync() == expected)
    }

    fn advance(&mut self, micros: u64) {
        self.pace.sleep(micros);
    }

    fn counts(&mut self) -> Option<[u64; 3]> {
        let seen = now(self.service.metrics());
        let counts = [seen.total_calls, seen.failure_count, seen.slow_call_count];
        (seen.state == CircuitState::Closed).then(|| counts.map(|count| count as u64))
    }

    fn order(&mut self, order: &str) -> bool {
        match order {
            "force_open" => now(self.service.force_open()),
            "close" => now(self.service.force_closed()),
            "reset" => now(self.service.reset()),
            _ => return false,
        }
        true
    }
}
