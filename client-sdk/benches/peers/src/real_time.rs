//! Calls in flight and the passing of time, for breakers that read the machine's clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::script::{Vector, micros};

/// How much faster than the vector real time passes.
pub struct Pace(u64);

/// The longest time of a vector takes so long.
const LONGEST: u64 = 600_000;

impl Pace {
    /// The pace at which this vector takes a second or so, or why it cannot be run.
    pub fn of(vector: &Vector) -> Result<Pace, String> {
        let words = vector.steps.iter().flat_map(|(_, words)| words);
        let steps: Vec<u64> = words.clone().filter_map(|word| word.strip_prefix('+')).map(micros).collect();
        let took = words.filter_map(|word| word.split_once('@')).map(|(_, took)| micros(took));
        if steps.iter().any(|step| step % 1_000 != 0) {
            return Err("depends on single microseconds".to_owned());
        }
        let longest = steps.iter().copied().chain(took).max().unwrap_or(0);
        let pace = longest.div_ceil(LONGEST).max(1);
        if steps.iter().any(|step| step / pace < 5_000) {
            return Err("too long for real time".to_owned());
        }
        Ok(Pace(pace))
    }

    /// How long so many microseconds of the vector are.
    pub fn scaled(&self, micros: u64) -> Duration {
        Duration::from_micros(micros / self.0)
    }

    /// Lets so many microseconds of the vector pass.
    pub fn sleep(&self, micros: u64) {
        if micros > 0 {
            std::thread::sleep(self.scaled(micros));
        }
    }
}

/// A call that ends when it is told to.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicU8>);

const SUCCEED: u8 = 1;
const FAIL: u8 = 2;

impl Future for Gate {
    type Output = Result<(), std::fmt::Error>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.load(Ordering::Relaxed) {
            SUCCEED => Poll::Ready(Ok(())),
            FAIL => Poll::Ready(Err(std::fmt::Error)),
            _ => Poll::Pending,
        }
    }
}

/// A call in flight.
pub type Running<E> = Pin<Box<dyn Future<Output = Result<(), E>>>>;

/// Polls once; `None` if the breaker refused.
pub fn start<E>(gate: Gate, mut call: Running<E>) -> Option<(Gate, Running<E>)> {
    let pending = call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    pending.then_some((gate, call))
}

/// Lets the call end.
pub fn finish<E>((gate, mut call): (Gate, Running<E>), failed: bool) {
    gate.0.store(if failed { FAIL } else { SUCCEED }, Ordering::Relaxed);
    let ended = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(ended.is_ready(), "a call that may end does");
}

/// A future of a lock that nobody holds.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nobody holds the lock"),
    }
}
