//! A limit as a part of a pipeline.

use std::convert::Infallible;
use std::time::Duration;

use tollgate_client::limiter::FailureMode;
use tollgate_client::{Error, Pipeline};

use crate::world::{acme, client, limiter, window};

const HOUR: tollgate_core::time::Span = tollgate_core::time::Span::from_secs(3_600);

#[tokio::test]
async fn a_pipeline_asks_before_every_call() {
    let served = limiter(window(2, HOUR)).serve().await.unwrap();
    let client = client(served.target()).connect_lazy().unwrap();
    let pipeline = Pipeline::builder("egress")
        .rate_limit(client.rule(acme()))
        .deadline(Duration::from_secs(5))
        .build()
        .unwrap();
    let call = async || pipeline.call(|| async { Ok::<_, Infallible>(7) }).await;
    assert_eq!((call().await.unwrap(), call().await.unwrap()), (7, 7));
    let refused = call().await.unwrap_err();
    assert!(matches!(refused, Error::RateLimited { .. }), "{refused:?}");
    assert!(refused.retry_after().is_some_and(|after| after > Duration::ZERO));
}

#[tokio::test]
async fn a_pipeline_without_a_decision_is_unavailable_if_that_is_the_mode() {
    let client = client("static:127.0.0.1:1").failure_mode(FailureMode::Closed).connect_lazy().unwrap();
    let pipeline = Pipeline::builder("egress").rate_limit(client.rule(acme())).build().unwrap();
    let refused = pipeline.call(|| async { Ok::<_, Infallible>(7) }).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
}
