//! An axum service that asks the limiter before it serves: each tenant has a budget, each route another one.
//!
//! `cargo run -p tollgate-client --example axum_limits --features testing,axum`
//!
//! The limiter runs inside of this process; against real ones only the target differs: `dns:///tollgate:8081`.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use tollgate_client::layer::rate_limit::{RateLimitLayer, key};
use tollgate_client::limiter::{DecisionSource, FailureMode, LocalLimit, RateLimiterClient};
use tollgate_client::testing::InProcessLimiter;
use tollgate_core::limit::{Limit, Rate, TokenBucket};
use tollgate_core::time::Span;
use tower::ServiceExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    show().await
}

/// What the example shows; ends by itself.
pub(crate) async fn show() -> Result<(), Box<dyn Error>> {
    let limits = InProcessLimiter::builder()
        .limit("shop", &["tenant"], bucket(1, 10)?)
        .limit("shop", &["route=/export"], bucket(1, 3)?)
        .build()?;
    let served = limits.serve().await?;

    let limiter = RateLimiterClient::builder(served.target())
        .domain("shop")
        .deadline(Duration::from_millis(500))
        .failure_mode(FailureMode::Local(LocalLimit::per_second(20).burst(40).expected_clients(4)))
        .connect_lazy()?;
    let limit = RateLimitLayer::builder(limiter.clone())
        .descriptor("tenant", key::header("x-tenant").or(key::peer_ip()))
        .descriptor("route", key::matched_path())
        .rate_limit_headers(true)
        .build()?;
    let app = Router::new()
        .route("/orders", get(|| async { "orders" }))
        .route("/export", get(|| async { "export" }))
        .layer(limit);

    // the tenant has ten, but the route only three for all tenants
    for number in 1..=3 {
        let tenant = format!("tenant-{number}");
        expect(&call(&app, "/export", &tenant).await?, StatusCode::OK);
    }
    let refused = call(&app, "/export", "tenant-4").await?;
    expect(&refused, StatusCode::TOO_MANY_REQUESTS);
    println!("export: refused, Retry-After: {}", header(&refused, "retry-after"));

    // what one limit refused was not charged to the other
    for _ in 0..10 {
        expect(&call(&app, "/orders", "tenant-4").await?, StatusCode::OK);
    }
    let refused = call(&app, "/orders", "tenant-4").await?;
    expect(&refused, StatusCode::TOO_MANY_REQUESTS);
    println!("orders: refused, RateLimit: {}", header(&refused, "ratelimit"));

    let metrics = limiter.metrics();
    let asked = metrics.from_source(DecisionSource::Service);
    println!("{asked} questions to the limiter, {} of them in one message or another", limits.messages());
    assert_eq!(asked, 15, "every request was decided by the limiter");
    Ok(())
}

/// One token in ten seconds, after a burst.
fn bucket(count: u64, burst: u64) -> Result<Limit, Box<dyn Error>> {
    Ok(Limit::TokenBucket(TokenBucket::new(Rate::new(count, Span::from_secs(10))?, burst)?))
}

async fn call(app: &Router, path: &str, tenant: &str) -> Result<Response, Box<dyn Error>> {
    let request = Request::builder().uri(path).header("x-tenant", tenant).body(Body::empty())?;
    Ok(app.clone().oneshot(request).await?)
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("none")
}

fn expect(response: &Response, status: StatusCode) {
    assert_eq!(response.status(), status);
}
