//! The examples do what they tell.

#[path = "../examples/pipeline.rs"]
#[expect(dead_code, reason = "its main is not needed here")]
mod pipeline;

#[path = "../examples/tonic_breaker.rs"]
#[expect(dead_code, reason = "its main is not needed here")]
mod tonic_breaker;

#[tokio::test]
async fn the_pipeline_example_holds() -> Result<(), Box<dyn std::error::Error>> {
    pipeline::run().await
}

#[tokio::test]
async fn the_tonic_example_holds() -> Result<(), Box<dyn std::error::Error>> {
    tonic_breaker::run().await
}
