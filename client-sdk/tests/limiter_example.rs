//! The example of the axum layer does what it says.
#![cfg(all(feature = "testing", feature = "axum"))]

#[path = "../examples/axum_limits.rs"]
#[expect(dead_code, reason = "an example has a main function")]
mod axum_limits;

#[tokio::test]
async fn the_axum_example_runs() {
    let outcome = axum_limits::show().await;
    assert!(outcome.is_ok(), "{outcome:?}");
}
