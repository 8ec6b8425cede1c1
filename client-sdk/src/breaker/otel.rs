//! Breakers as OpenTelemetry metrics.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Meter};

use super::{CircuitBreaker, CircuitBreakerMetrics, CircuitBreakerRegistry, EventListener, Transition};
use crate::state::State;

impl CircuitBreakerRegistry {
    /// Shows every breaker of this registry as instruments of `meter`, each with the attribute `name`:
    /// `circuit_breaker.state` (1 for the state that it is in, 0 for the others, attribute `state`),
    /// `circuit_breaker.failure_rate` and `.slow_rate` (absent with too few calls),
    /// `circuit_breaker.half_open.permits`, `.overdue`, `.not_permitted` and `.late_results_dropped`.
    ///
    /// They are read when the meter's reader asks; calls pay nothing.
    pub fn observe(&self, meter: &Meter) {
        self.observe_states(meter);
        self.observe_rates(meter);
        self.observe_counts(meter);
    }

    fn observe_states(&self, meter: &Meter) {
        let registry = self.clone();
        let gauge = meter.u64_observable_gauge("circuit_breaker.state");
        // the meter keeps the instrument
        let _kept = gauge
            .with_callback(move |observer| registry.iter().for_each(|breaker| one_hot(observer, &breaker)))
            .build();
    }

    fn observe_rates(&self, meter: &Meter) {
        let rates: [(&'static str, Read<f64>); 2] = [
            ("circuit_breaker.failure_rate", |metrics| metrics.failure_rate),
            ("circuit_breaker.slow_rate", |metrics| metrics.slow_rate),
        ];
        for (name, rate) in rates {
            let registry = self.clone();
            let gauge = meter.f64_observable_gauge(name);
            let _kept = gauge.with_callback(move |observer| registry.each(observer, rate)).build();
        }
    }

    fn observe_counts(&self, meter: &Meter) {
        let gauges: [(&'static str, Read<u64>); 2] = [
            ("circuit_breaker.half_open.permits", |metrics| metrics.permits_left.map(u64::from)),
            ("circuit_breaker.overdue", |metrics| Some(metrics.overdue)),
        ];
        for (name, count) in gauges {
            let registry = self.clone();
            let gauge = meter.u64_observable_gauge(name);
            let _kept = gauge.with_callback(move |observer| registry.each(observer, count)).build();
        }
        let counters: [(&'static str, Read<u64>); 2] = [
            ("circuit_breaker.not_permitted", |metrics| Some(metrics.not_permitted)),
            ("circuit_breaker.late_results_dropped", |metrics| Some(metrics.late_results_dropped)),
        ];
        for (name, count) in counters {
            let registry = self.clone();
            let counter = meter.u64_observable_counter(name);
            let _kept = counter.with_callback(move |observer| registry.each(observer, count)).build();
        }
    }

    /// Shows what `read` finds in each breaker that has it.
    fn each<T>(&self, observer: &dyn AsyncInstrument<T>, read: Read<T>) {
        for breaker in self.iter() {
            if let Some(value) = read(&breaker.metrics()) {
                observer.observe(value, &[name(&breaker)]);
            }
        }
    }
}

type Read<T> = fn(&CircuitBreakerMetrics) -> Option<T>;

fn name(breaker: &CircuitBreaker) -> KeyValue {
    KeyValue::new("name", breaker.name().to_string())
}

/// One series for each state, of which one is 1.
fn one_hot(observer: &dyn AsyncInstrument<u64>, breaker: &CircuitBreaker) {
    let now = breaker.state();
    for state in State::ALL {
        let attributes = [name(breaker), KeyValue::new("state", state.as_str())];
        observer.observe(u64::from(state == now), &attributes);
    }
}

/// Counts changes of state as `circuit_breaker.transitions`, with `name`, `from` and `to`: a listener for
/// [`RegistryBuilder::listener`](super::RegistryBuilder::listener).
#[derive(Clone, Debug)]
pub struct TransitionCounter(Counter<u64>);

impl TransitionCounter {
    /// Counts with `meter`.
    #[must_use]
    pub fn new(meter: &Meter) -> TransitionCounter {
        TransitionCounter(meter.u64_counter("circuit_breaker.transitions").build())
    }
}

impl EventListener for TransitionCounter {
    fn on_transition(&self, transition: &Transition) {
        let Transition { name, from, to, .. } = transition;
        let name = KeyValue::new("name", name.to_string());
        let (from, to) = (KeyValue::new("from", from.as_str()), KeyValue::new("to", to.as_str()));
        self.0.add(1, &[name, from, to]);
    }
}
