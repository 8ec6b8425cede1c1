//! When a call has to be done, handed on from caller to callee.
//!
//! A deadline travels as `grpc-timeout` (a span, so that nobody's clock has to be right), and inside of a
//! process with the task. Every step takes what is left of it, less a margin for the way back.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tollgate_core::load::deadline as core;
use tollgate_core::time::Span;

use crate::clock::{Clock, SystemClock, duration, span};

/// The header that carries it.
const HEADER: &str = "grpc-timeout";

/// What is kept back from an inbound deadline, so that the answer arrives in time.
const MARGIN: Span = Span::from_millis(5);

tokio::task_local! {
    static CURRENT: Deadline;
}

/// When a call has to be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(core::Deadline);

impl Deadline {
    /// `timeout` from now.
    #[must_use]
    pub fn within(timeout: Duration) -> Deadline {
        Deadline(core::Deadline::after(SystemClock.now(), span(timeout)))
    }

    /// That of an inbound call, as its `grpc-timeout` says, less 5 ms for the way back (less half of it, if
    /// it is shorter than 10 ms). `None` without the header or if it cannot be read.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Option<Deadline> {
        let timeout = timeout_in(headers)?;
        Some(Deadline(core::Deadline::inbound(SystemClock.now(), timeout, MARGIN)))
    }

    /// That of the call which this task serves, if it is known: see [`scope`](Self::scope).
    #[must_use]
    pub fn current() -> Option<Deadline> {
        CURRENT.try_with(|deadline| *deadline).ok()
    }

    /// Runs `work` with this as its current deadline, or the one that it has, if that is earlier.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self.or_current(), work).await
    }

    fn or_current(self) -> Deadline {
        Deadline::current().map_or(self, |current| self.min(current))
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Deadline) -> Deadline {
        if other.remaining() < self.remaining() { other } else { self }
    }

    /// What is left, zero if it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.remaining(SystemClock.now()).map_or(Duration::MAX, duration)
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over(SystemClock.now())
    }

    /// Whether so little is left that a callee which keeps a margin for the way back has given up.
    pub(crate) fn is_due(&self) -> bool {
        self.remaining() <= duration(MARGIN)
    }

    /// Sets the `grpc-timeout` of an outbound call to what is left, unless it is shorter already.
    pub fn write(&self, headers: &mut HeaderMap) {
        let left = span(self.remaining());
        if timeout_in(headers).is_some_and(|timeout| timeout <= left) {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(&core::format_timeout(left)) {
            headers.insert(HEADER, value);
        }
    }
}

/// What an outbound call says already: its caller has set a deadline for this very call.
pub(crate) fn outbound(headers: &HeaderMap) -> Option<Deadline> {
    timeout_in(headers).map(|timeout| Deadline::within(duration(timeout)))
}

fn timeout_in(headers: &HeaderMap) -> Option<Span> {
    core::parse_timeout(headers.get(HEADER)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn headers(timeout: &str) -> HeaderMap {
        [(http::HeaderName::from_static(HEADER), timeout.parse().unwrap())].into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_inbound_deadline_leaves_time_for_the_way_back() {
        assert_eq!(Deadline::of_headers(&headers("100m")).unwrap().remaining(), ms(95));
        assert_eq!(Deadline::of_headers(&headers("4m")).unwrap().remaining(), ms(2));
        assert!(Deadline::of_headers(&headers("soon")).is_none());
        assert!(Deadline::of_headers(&HeaderMap::new()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_current_deadline_only_tightens() {
        assert!(Deadline::current().is_none());
        let left = async || Deadline::current().unwrap().remaining();
        let outer = async {
            tokio::time::advance(ms(30)).await;
            (Deadline::within(ms(500)).scope(left()).await, Deadline::within(ms(20)).scope(left()).await)
        };
        let seen = Deadline::within(ms(100)).scope(outer).await;
        assert_eq!(seen, (ms(70), ms(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_header_is_never_made_longer() {
        let mut sent = headers("10m");
        Deadline::within(ms(50)).write(&mut sent);
        assert_eq!(sent, headers("10m"));
        Deadline::within(ms(7)).write(&mut sent);
        assert_eq!(timeout_in(&sent), Some(Span::from_millis(7)));
    }
}
