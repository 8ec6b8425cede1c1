//! Waiting with a bound.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The pause between two looks: short beside what is waited for, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks `condition` again and again until it holds. An answer that hangs counts as no.
///
/// Panics with `what` when `bound` has passed.
pub async fn eventually<F, A>(bound: Duration, what: &str, mut condition: F)
where
    F: FnMut() -> A,
    A: Future<Output = bool>,
{
    let deadline = Instant::now() + bound;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if timeout(left, condition()).await == Ok(true) {
            return;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
        sleep(PAUSE).await;
    }
}

/// What `future` gives. Panics when it has given nothing after `bound`.
pub async fn within<T>(bound: Duration, future: impl Future<Output = T>) -> T {
    timeout(bound, future).await.unwrap_or_else(|_| panic!("no end within {bound:?}"))
}
