//! Retries as a layer: a [`Pipeline`] with nothing else in it.

use crate::config::ConfigError;
use crate::layer::pipeline::PipelineLayer;
use crate::pipeline::{IntoPart, Pipeline};
use crate::retry::Retry;

/// Tries again; see [`Retry`].
pub struct RetryLayer;

impl RetryLayer {
    /// Retries calls whose results `classifier` reads.
    ///
    /// # Errors
    /// [`ConfigError`] if `retry` is a builder whose settings make no sense.
    #[expect(clippy::new_ret_no_self, reason = "it is a layer with one policy")]
    pub fn new<C>(retry: impl IntoPart<Retry>, classifier: C) -> Result<PipelineLayer<C>, ConfigError> {
        Ok(Pipeline::builder("retry").retry(retry).build()?.layer(classifier))
    }
}
