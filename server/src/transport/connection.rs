//! One connection from its first byte to its last: limits, age, drain.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::hash::{BuildHasher, RandomState};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::authority::{self, AuthorityFilter};
use super::grpc::GrpcService;
use super::listen::{Protocol, Stream};
use super::tls::{self, TlsServer, read_preface};
use crate::access::{Access, Introduction};
use crate::telemetry::metrics::{ConnectionKind, Metrics};

/// Streams of one connection that we may have to reset for faults of the caller.
const MAX_FAULTS: usize = 1024;

/// What one connection may do.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// After about this long a gRPC connection is asked to go (GOAWAY); `None` is never.
    pub max_age: Option<Duration>,
    /// The age varies by this much in either direction, so that connections do not end together.
    pub age_jitter_percent: u8,
    /// Then its calls have this long to finish; `None` is for ever.
    pub age_grace: Option<Duration>,
    /// A connection is asked for a sign of life this often; `None` is never.
    pub keepalive_interval: Option<Duration>,
    /// It has to answer within this.
    pub keepalive_timeout: Duration,
    /// Calls in flight per connection.
    pub max_streams: u32,
    /// Bytes of decoded headers per call, as HPACK counts them.
    pub max_header_bytes: u32,
    /// HTTP/2 flow-control window of a call.
    pub stream_window: u32,
    /// HTTP/2 flow-control window of a connection.
    pub connection_window: u32,
    /// The head of an HTTP/1 request, and the first bytes of an HTTP/2 connection, have to arrive within this;
    /// `None` is whenever.
    pub head_timeout: Option<Duration>,
    /// Connections of the gRPC port; `None` is as many as the system has.
    pub max_grpc: Option<usize>,
    /// Connections of the HTTP port; `None` is as many as the system has.
    pub max_http: Option<usize>,
}

/// Who may connect, and what callers may do.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// TLS on the gRPC port.
    pub grpc: Option<Arc<TlsServer>>,
    /// TLS on the HTTP port.
    pub http: Option<Arc<TlsServer>>,
    /// What callers may do.
    pub access: Arc<Access>,
}

/// What connections of one worker call.
#[derive(Clone)]
pub struct Services {
    /// The gRPC services.
    pub grpc: GrpcService,
    /// The HTTP routes.
    pub http: Router,
    /// What is done to authorities that are no URIs.
    pub authorities: Arc<authority::Counts>,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
    /// What each worker does before its first connection.
    pub warm: Warm,
    /// Who may connect.
    pub guard: Guard,
}

/// Work that is begun once on each worker.
pub type Warm = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Serves one connection until it ends, ages out or is drained.
pub(super) async fn serve(
    stream: Stream,
    protocol: Protocol,
    services: Services,
    limits: &ConnectionLimits,
    drain: CancellationToken,
) {
    let _open = services.metrics.connected(match protocol {
        Protocol::Grpc => ConnectionKind::Grpc,
        Protocol::Http => ConnectionKind::Http,
    });
    let serving = Serving { protocol, services, limits, drain };
    let ended = match stream {
        Stream::Tcp(stream) => serving.secure(stream).await,
        Stream::Unix(stream) => serving.secure(stream).await,
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error as &dyn std::error::Error, ?protocol, "connection ended");
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// One connection.
struct Serving<'l> {
    protocol: Protocol,
    services: Services,
    limits: &'l ConnectionLimits,
    drain: CancellationToken,
}

impl Serving<'_> {
    /// Does the handshake, if there has to be one.
    async fn secure(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Ended {
        let guard = &self.services.guard;
        let tls = match self.protocol {
            Protocol::Grpc => guard.grpc.clone(),
            Protocol::Http => guard.http.clone(),
        };
        let Some(tls) = tls else {
            let introduction = guard.access.meet(None);
            return self.speak(stream, introduction).await;
        };
        let stream = tls.accept(stream).await?;
        let introduction = guard.access.meet(tls::peer(&stream).as_ref());
        self.speak(stream, introduction).await
    }

    async fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        introduction: Option<Introduction>,
    ) -> Ended {
        match self.protocol {
            Protocol::Grpc => self.grpc(stream, introduction).await,
            Protocol::Http => {
                let routes = Introduced::new(self.services.http, introduction);
                Ok(serve_http(stream, routes, self.limits, self.drain).await?)
            }
        }
    }

    async fn grpc(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        introduction: Option<Introduction>,
    ) -> Ended {
        let Serving { services, limits, drain, .. } = self;
        let stream = tokio::select! {
            biased;
            begun = read_preface(stream, limits.head_timeout) => begun?,
            // nobody has asked anything
            () = drain.cancelled() => return Ok(()),
        };
        let leaving = CancellationToken::new();
        let service = services.grpc.on(leaving.clone(), introduction);
        let stream = AuthorityFilter::new(stream, authority::Limits::default(), services.authorities);
        let connection = http2_builder(limits).serve_connection(TokioIo::new(stream), service);
        let age = limits.max_age.map(|age| jittered(age, limits.age_jitter_percent));
        let leave = async { if let Some(age) = age { sleep(age).await } else { pending().await } };
        let ask_to_end = |connection: Pin<&mut _>| {
            leaving.cancel();
            http2::Connection::graceful_shutdown(connection);
        };
        Ok(drive(connection, ask_to_end, leave, drain, limits.age_grace).await?)
    }
}

fn http2_builder(limits: &ConnectionLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        // a burst of callers whose deadlines pass must not cost the whole connection; more than may be open at once
        // is a flood (CVE-2023-44487), which ends it
        .max_pending_accept_reset_streams(limits.max_streams as usize)
        .max_local_error_reset_streams(MAX_FAULTS)
        .max_header_list_size(limits.max_header_bytes)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .auto_date_header(false);
    builder
}

/// Serves HTTP/1.1 until the connection ends or is drained.
pub(super) async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Introduced,
    limits: &ConnectionLimits,
    drain: CancellationToken,
) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), routes).with_upgrades();
    drive(connection, |connection| connection.graceful_shutdown(), pending(), drain, limits.age_grace).await
}

/// Routes whose requests carry what is known of their sender.
pub(super) struct Introduced {
    routes: TowerToHyperService<Router>,
    introduction: Option<Introduction>,
}

impl Introduced {
    pub(super) fn new(routes: Router, introduction: Option<Introduction>) -> Introduced {
        Introduced { routes: TowerToHyperService::new(routes), introduction }
    }
}

impl Service<Request<Incoming>> for Introduced {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(introduction) = &self.introduction {
            introduction.mark(&mut request);
        }
        self.routes.call(request)
    }
}

/// Runs a connection; at `leave` or `drain` it is asked to end, and ended after `grace`.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    ask_to_end: impl FnOnce(Pin<&mut C>),
    leave: impl Future<Output = ()>,
    drain: CancellationToken,
    grace: Option<Duration>,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = leave => {}
        () = drain.cancelled() => {
            // the worker cuts off what has not ended by the end of the shutdown grace
            ask_to_end(connection.as_mut());
            return connection.await;
        }
    }
    ask_to_end(connection.as_mut());
    match grace {
        Some(grace) => timeout(grace, connection).await.unwrap_or(Ok(())),
        None => connection.await,
    }
}

/// `age` ± `percent` of it, by chance.
fn jittered(age: Duration, percent: u8) -> Duration {
    let range = u128::from(percent.min(100)) * age.as_micros() / 100;
    let chance = u128::from(RandomState::new().hash_one(()));
    let micros = age.as_micros() - range + chance * 2 * range / u128::from(u64::MAX);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The body type of HTTP requests.
pub(super) type Body = Incoming;
/// Services never fail: every failure is an answer.
pub(super) type Never = Infallible;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_spread_around_the_setting() {
        let ages: Vec<_> = (0..200).map(|_| jittered(Duration::from_secs(100), 10)).collect();
        assert!(ages.iter().all(|age| (90..=110).contains(&age.as_secs())));
        assert!(ages.iter().any(|age| age.as_secs() < 98) && ages.iter().any(|age| age.as_secs() > 102));
        assert_eq!(jittered(Duration::from_secs(100), 0), Duration::from_secs(100));
    }
}
