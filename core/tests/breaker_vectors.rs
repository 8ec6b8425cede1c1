//! The vectors of `tests/vectors`: what other breakers promise, and where we differ. See its README.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "breaker/run.rs"]
mod run;
#[path = "breaker/script.rs"]
mod script;

use std::collections::{BTreeMap, BTreeSet};

use run::{START, config, run};
use script::vectors;
use tollgate_core::breaker::{Breaker, Mode, Outcome, Rate};

/// Those that need more than a script; see the tests below.
const APART: [&str; 2] = ["F16", "R23"];

#[test]
fn every_vector_passes() {
    let vectors = vectors();
    let mut failed = Vec::new();
    for vector in &vectors {
        let result = run(vector);
        println!("{:<4}{} {}", vector.id, if result.is_ok() { "pass" } else { "FAIL" }, vector.title);
        failed.extend(result.err().map(|error| format!("{} {}: {error}", vector.id, vector.title)));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let ids: BTreeSet<String> =
        vectors.into_iter().map(|vector| vector.id).chain(APART.map(Into::into)).collect();
    let numbered = |letter: &'static str, last: u32| (1..=last).map(move |n| format!("{letter}{n}"));
    let others = numbered("L", 4).chain(numbered("G", 2)).chain(numbered("T", 3));
    let all = numbered("R", 24).chain(numbered("F", 18)).chain(numbered("P", 12)).chain(others);
    let all: BTreeSet<String> = all.collect();
    assert_eq!(all.len(), 63);
    assert_eq!(ids, all);
}

/// F16: a retry of seven attempts around a breaker of three failures reaches the target three times.
#[test]
fn a_retry_around_a_breaker_stops_calling() {
    let words = BTreeMap::from([("consecutive".to_owned(), "3".to_owned())]);
    let breaker = Breaker::new(config(&words), 1, START).unwrap();
    let (mut executions, mut last) = (0, None);
    let attempts = 7;
    for _ in 0..attempts {
        match breaker.admit(START) {
            Ok(permit) => {
                executions += 1;
                breaker.record(permit, START, Outcome::Failure);
                last = None;
            }
            Err(refused) => last = Some(refused.mode),
        }
    }
    assert_eq!((executions, last), (3, Some(Mode::Open)));
    assert_eq!(breaker.snapshot(START).not_permitted, 4);
}

/// R23: what a call returned may be a failure by a predicate of the caller.
#[test]
fn a_result_can_count_as_a_failure() {
    let words = BTreeMap::from([("rate", "1/2"), ("count", "4"), ("min", "4")]);
    let words = words.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let breaker = Breaker::new(config(&words), 1, START).unwrap();
    let judge = |status: u16| if status >= 500 { Outcome::Failure } else { Outcome::Success };
    let answers: [Result<u16, ()>; 4] = [Ok(200), Ok(503), Ok(404), Ok(500)];
    for answer in answers {
        let permit = breaker.admit(START).unwrap();
        breaker.record(permit, START, answer.map_or(Outcome::Failure, judge));
    }
    let seen = breaker.snapshot(START);
    assert_eq!((seen.mode, seen.failure_rate), (Mode::Open, Some(Rate { part: 2, of: 4 })));
}
