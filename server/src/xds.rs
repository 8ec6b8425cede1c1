//! Rules from a management server: the client of Envoy's aggregated discovery service, state of the world.
//!
//! One stream, one type. Each response has all rules and is taken as a whole or not at all; what is wrong with it goes
//! back to the server. A stream that ends is opened again and says the version that is in force: never one that was
//! refused. The protocol: <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>.

mod backoff;
mod connect;
mod convert;
mod figures;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

pub use self::backoff::Backoff;
pub use self::connect::XdsTls;
pub use self::convert::sources;
pub use self::figures::{XdsFigures, XdsReading};
use self::stream::{Stream, headers};
use crate::config::watch::Loader;

/// The type of what is asked for.
pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Where the server is, and how it is called.
#[derive(Clone, Debug)]
pub struct XdsOptions {
    /// `host:port`
    pub server: String,
    /// Who calls.
    pub node: XdsNode,
    /// Headers of the call.
    pub headers: Vec<(String, String)>,
    /// Largest response.
    pub max_message_bytes: usize,
    /// Time between PINGs.
    pub keepalive_interval: Option<Duration>,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// TLS, if it is spoken.
    pub tls: Option<XdsTls>,
}

/// Who calls.
#[derive(Clone, Debug, Default)]
pub struct XdsNode {
    /// Name by which the server knows us.
    pub id: String,
    /// Whatever else it wants to know.
    pub metadata: Vec<(String, String)>,
}

/// The client.
pub struct XdsClient {
    options: XdsOptions,
    metadata: tonic::metadata::MetadataMap,
    loader: Loader,
    figures: Arc<XdsFigures>,
    /// The version in force; empty before the first.
    version: String,
}

impl XdsClient {
    /// A client that hands what it gets to `loader`.
    ///
    /// # Errors
    /// A header cannot be sent.
    pub fn new(options: XdsOptions, loader: Loader) -> anyhow::Result<XdsClient> {
        let metadata = headers(&options.headers)?;
        let figures = Arc::new(XdsFigures::default());
        Ok(XdsClient { options, metadata, loader, figures, version: String::new() })
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> Arc<XdsFigures> {
        self.figures.clone()
    }

    /// Follows the server for ever. A message of `reload` opens a new stream at once.
    pub async fn follow(mut self, mut reload: Receiver<()>) {
        let mut failures = 0;
        loop {
            let (before, opened) = (self.figures.responses(), Instant::now());
            let asked = tokio::select! {
                ended = self.serve_once() => {
                    tracing::warn!(server = self.options.server, "management server: {:#}", ended);
                    false
                }
                true = async { reload.recv().await.is_some() } => true,
            };
            self.figures.disconnected();
            if asked {
                failures = 0;
                continue;
            }
            // one that said nothing since all was said may have been a good one
            if self.figures.responses() > before || opened.elapsed() > self.options.backoff.max() {
                failures = 0;
            }
            let wait = self.options.backoff.wait(failures);
            failures = failures.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                true = async { reload.recv().await.is_some() } => {}
            }
        }
    }

    /// Connects and follows one stream; returns why it has ended.
    async fn serve_once(&mut self) -> anyhow::Error {
        match self.stream().await {
            Ok(()) => anyhow::anyhow!("the stream has ended"),
            Err(error) => error,
        }
    }

    async fn stream(&mut self) -> anyhow::Result<()> {
        let channel = connect::connect(&self.options).await?;
        let mut stream = Stream::open(channel, &self.options, &self.metadata, &self.version)?;
        self.figures.connected();
        tracing::info!(server = self.options.server, version = self.version, "management server: connected");
        while let Some(response) = stream.next().await? {
            self.figures.responded();
            let version = response.version_info.clone();
            let verdict = match sources(&response) {
                Ok(sources) => self.loader.take(Ok(sources)).await,
                Err(problems) => {
                    problems.iter().for_each(|problem| tracing::error!("{problem}"));
                    Err(problems)
                }
            };
            if verdict.is_ok() {
                self.version = version;
                self.figures.accepted(&self.version);
            } else {
                self.figures.rejected();
                tracing::warn!(version, in_force = self.version, "management server: version refused");
            }
            stream.answer(&response, &self.version, verdict.err())?;
        }
        Ok(())
    }
}
