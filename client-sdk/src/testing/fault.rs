//! Faults on the way to a target, by a seeded plan: the same seed gives the same faults in the same order.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tower::{Layer, Service};

use crate::config::{ConfigError, Rolls};

/// What happens to a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is answered `UNAVAILABLE` without being sent.
    Unavailable,
    /// It is sent, and its answer is lost with the connection.
    Reset,
    /// It is sent later.
    Delay(Duration),
}

/// Which faults there are, and how many of each. The shares add up to at most 1.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// Makes the same faults in the same order.
    pub seed: u64,
    /// Share of calls that are answered `UNAVAILABLE`.
    pub unavailable: f64,
    /// Share of calls whose answer is lost.
    pub reset: f64,
    /// Share of calls that are delayed.
    pub delayed: f64,
    /// By how much.
    pub delay: Duration,
}

impl Default for FaultPlan {
    /// No faults.
    fn default() -> FaultPlan {
        FaultPlan { seed: 1, unavailable: 0.0, reset: 0.0, delayed: 0.0, delay: Duration::ZERO }
    }
}

/// Injects faults before a service. Clones share one plan.
#[derive(Clone, Debug)]
pub struct FaultLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    plan: FaultPlan,
    rolls: Rolls,
}

impl FaultLayer {
    /// Injects the faults of `plan`.
    ///
    /// # Errors
    /// [`ConfigError`] if a share is not in `0.0..=1.0`, or all together are more than 1.
    pub fn new(plan: FaultPlan) -> Result<FaultLayer, ConfigError> {
        let shares = [plan.unavailable, plan.reset, plan.delayed];
        let sum: f64 = shares.iter().sum();
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || sum > 1.0 {
            return Err(ConfigError::range("fault plan", "shares in 0.0..=1.0, together at most 1.0", &sum));
        }
        Ok(FaultLayer(Arc::new(Shared { rolls: Rolls::new(plan.seed), plan })))
    }

    /// What happens to the next call.
    #[must_use]
    pub fn next(&self) -> Fault {
        let Shared { plan, rolls } = &*self.0;
        let roll = f64::from(rolls.next()) / f64::from(u32::MAX);
        if roll < plan.unavailable {
            Fault::Unavailable
        } else if roll < plan.unavailable + plan.reset {
            Fault::Reset
        } else if roll < plan.unavailable + plan.reset + plan.delayed {
            Fault::Delay(plan.delay)
        } else {
            Fault::None
        }
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { inner, layer: self.clone() }
    }
}

/// The service of a [`FaultLayer`].
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    inner: S,
    layer: FaultLayer,
}

/// A fault, or the service's own error.
#[derive(Debug)]
pub enum FaultError<E> {
    /// Injected; a status of code `UNAVAILABLE`, or `UNKNOWN` for a lost answer.
    Injected(Box<Status>),
    /// The service's own.
    Inner(E),
}

impl<E> fmt::Display for FaultError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultError::Injected(_) => f.write_str("a fault was injected"),
            FaultError::Inner(_) => f.write_str("the call failed"),
        }
    }
}

impl<E: StdError + 'static> StdError for FaultError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            FaultError::Injected(status) => Some(&**status),
            FaultError::Inner(error) => Some(error),
        }
    }
}

fn injected<E>(status: Status) -> FaultError<E> {
    FaultError::Injected(Box::new(status))
}

impl<S: Service<Req>, Req> Service<Req> for Faulty<S> {
    type Response = S::Response;
    type Error = FaultError<S::Error>;
    type Future = FaultFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(FaultError::Inner)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.layer.next() {
            Fault::Unavailable => FaultFuture { call: None, delay: None, reset: false },
            fault => {
                let delay =
                    if let Fault::Delay(delay) = fault { Some(tokio::time::sleep(delay)) } else { None };
                FaultFuture { call: Some(self.inner.call(request)), delay, reset: fault == Fault::Reset }
            }
        }
    }
}

pin_project! {
    /// The future of a [`Faulty`].
    #[derive(Debug)]
    pub struct FaultFuture<F> {
        #[pin]
        call: Option<F>,
        #[pin]
        delay: Option<Sleep>,
        reset: bool,
    }
}

impl<F: Future<Output = Result<Res, E>>, Res, E> Future for FaultFuture<F> {
    type Output = Result<Res, FaultError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(delay) = this.delay.as_mut().as_pin_mut() {
            ready!(delay.poll(cx));
            this.delay.set(None);
        }
        let Some(call) = this.call.as_pin_mut() else {
            return Poll::Ready(Err(injected(Status::unavailable("injected"))));
        };
        let result = ready!(call.poll(cx));
        if *this.reset {
            return Poll::Ready(Err(injected(Status::unknown("injected: the answer was lost"))));
        }
        Poll::Ready(result.map_err(FaultError::Inner))
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_faults_in_their_shares() {
        let plan = FaultPlan { unavailable: 0.2, reset: 0.1, delayed: 0.3, ..FaultPlan::default() };
        let faults = || {
            let layer = FaultLayer::new(plan.clone()).unwrap();
            (0..10_000).map(|_| layer.next()).collect::<Vec<_>>()
        };
        let all = faults();
        assert_eq!(all, faults());
        let share = |fault| all.iter().filter(|other| **other == fault).count();
        for (fault, expected) in
            [(Fault::Unavailable, 2_000), (Fault::Reset, 1_000), (Fault::Delay(Duration::ZERO), 3_000)]
        {
            assert!(share(fault).abs_diff(expected) < 200, "{fault:?}: {}", share(fault));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_does_what_it_says() {
        let call = |plan: FaultPlan| {
            let echo = tower::service_fn(async |x: u8| Ok::<_, std::io::Error>(x));
            FaultLayer::new(plan).unwrap().layer(echo).oneshot(7)
        };
        let code = |error: FaultError<std::io::Error>| Status::from_error(Box::new(error)).code();
        let unavailable = call(FaultPlan { unavailable: 1.0, ..FaultPlan::default() }).await.unwrap_err();
        assert_eq!(code(unavailable), tonic::Code::Unavailable);
        let reset = call(FaultPlan { reset: 1.0, ..FaultPlan::default() }).await.unwrap_err();
        assert_eq!(code(reset), tonic::Code::Unknown);
        let (start, delay) = (tokio::time::Instant::now(), Duration::from_millis(30));
        assert_eq!(call(FaultPlan { delayed: 1.0, delay, ..FaultPlan::default() }).await.unwrap(), 7);
        assert_eq!(start.elapsed(), delay);
    }

    #[test]
    fn shares_that_make_no_sense_are_errors() {
        assert!(FaultLayer::new(FaultPlan { reset: 0.6, delayed: 0.5, ..FaultPlan::default() }).is_err());
        assert!(FaultLayer::new(FaultPlan { unavailable: -0.1, ..FaultPlan::default() }).is_err());
    }
}
