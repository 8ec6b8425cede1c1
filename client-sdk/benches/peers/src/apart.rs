//! The two vectors that need more than a script: F16, a retry around the breaker, and R23, a result that counts
//! as a failure.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use tollgate_core::breaker::{Breaker, Mode, Outcome};
use tower::Service;
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, CircuitState};

use crate::real_time::now;
use crate::run::{START, config};
use crate::script::Vector;
use crate::subjects::Peer;
use crate::vectors::Result;

/// What the target answers in R23; half of it is a failure.
const ANSWERS: [u16; 4] = [200, 503, 404, 500];

fn settings(words: &[(&str, &str)]) -> BTreeMap<String, String> {
    words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn expect(holds: bool, why: impl ToString) -> Result {
    if holds { Result::Pass } else { Result::Fail(why.to_string()) }
}

/// The settings of F16: opens at three failures in a row.
pub fn three_in_a_row() -> Vector {
    let config = settings(&[("consecutive", "3")]);
    Vector { id: "F16".to_owned(), title: String::new(), config, steps: Vec::new() }
}

/// F16: seven attempts reach the target three times.
pub fn retry<P: Peer>(made: std::result::Result<P, String>) -> Result {
    let mut peer = match made {
        Ok(peer) => peer,
        Err(missing) => return Result::Unasked(missing),
    };
    let executed = (0..7).filter(|_| peer.admit().map(|held| peer.end(held, true, 0)).is_some()).count();
    expect(executed == 3, format!("{executed} executions"))
}

/// F16 on ours.
pub fn our_retry() -> Result {
    let breaker = Breaker::new(config(&three_in_a_row().config), 1, START).expect("good settings");
    let attempt = || breaker.admit(START).map(|permit| breaker.record(permit, START, Outcome::Failure));
    let executed = (0..7).filter(|_| attempt().is_ok()).count();
    expect(executed == 3, format!("{executed} executions"))
}

/// R23 on ours: the caller judges the result.
pub fn our_predicate() -> Result {
    let words = settings(&[("rate", "1/2"), ("count", "4"), ("min", "4")]);
    let breaker = Breaker::new(config(&words), 1, START).expect("good settings");
    for status in ANSWERS {
        let Ok(permit) = breaker.admit(START) else { return Result::Fail(format!("{status} is refused")) };
        let outcome = if status >= 500 { Outcome::Failure } else { Outcome::Success };
        breaker.record(permit, START, outcome);
    }
    expect(breaker.mode(START) == Mode::Open, "not open")
}

/// A target that answers what it is asked.
#[derive(Clone)]
struct Echo;

impl Service<u16> for Echo {
    type Response = u16;
    type Error = std::fmt::Error;
    type Future = std::future::Ready<std::result::Result<u16, std::fmt::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, status: u16) -> Self::Future {
        std::future::ready(Ok(status))
    }
}

/// R23 on tower-resilience: its classifier sees the result.
pub fn tower_predicate() -> Result {
    let failed = |result: &std::result::Result<u16, std::fmt::Error>| !matches!(result, Ok(..500));
    let layer = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(4)
        .minimum_number_of_calls(4)
        .failure_classifier(failed)
        .build()
        .expect("good settings");
    let mut service = layer.layer_fn(Echo);
    for status in ANSWERS {
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(ready.is_ready(), "ready without backpressure");
        if now(service.call(status)).is_err() {
            return Result::Fail(format!("{status} is refused"));
        }
    }
    expect(service.state_sync() == CircuitState::Open, "not open")
}
