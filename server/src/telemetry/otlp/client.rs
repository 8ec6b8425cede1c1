//! One connection to a collector, made when it is needed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::endpoint::{Protocol, Target};
use crate::telemetry::metrics::Signal;

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 1 << 20;

/// Why a message was not taken.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether the same message may be taken later.
    pub(super) may_pass: bool,
    pub(super) why: String,
}

/// How many items of a message were rejected, and why.
pub(super) type Rejected = Option<String>;

type BoxError = Box<dyn Error + Send + Sync>;

/// Sends messages to one collector, one after another.
pub(super) struct Client {
    target: Target,
    connection: Option<Connection>,
}

enum Connection {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(super) fn new(target: Target) -> Client {
        Client { target, connection: None }
    }

    /// The longest that one message may take.
    pub(super) fn timeout(&self) -> Duration {
        self.target.timeout
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, signal: Signal, message: &impl Message) -> Result<Rejected, Failure> {
        let body = self.body(message);
        let limit = self.target.timeout;
        let sent = match timeout(limit, self.exchange(signal, body)).await {
            Ok(sent) => sent,
            Err(_) => Err(Failure { may_pass: true, why: format!("no answer within {limit:?}") }),
        };
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }

    fn body(&self, message: &impl Message) -> Bytes {
        if self.target.protocol == Protocol::Http {
            return message.encode_to_vec().into();
        }
        // gRPC: not compressed, the length, the message
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(length + 5);
        body.put_u8(0);
        body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        body.put_slice(&message.encode_to_vec());
        body.freeze()
    }

    async fn exchange(&mut self, signal: Signal, body: Bytes) -> Result<Rejected, Failure> {
        let request = self.request(signal, body).map_err(|why| Failure { may_pass: false, why })?;
        let response =
            self.roundtrip(request).await.map_err(|error| Failure { may_pass: true, why: chain(&*error) })?;
        let (head, body) = response.into_parts();
        let answer = Limited::new(body, MAX_ANSWER).collect().await;
        let answer = answer.map_err(|error| Failure { may_pass: true, why: chain(&*error) })?;
        let trailers = answer.trailers().cloned().unwrap_or_default();
        let body = answer.to_bytes();
        if head.status != StatusCode::OK {
            return Err(http_failure(head.status));
        }
        match self.target.protocol {
            Protocol::Http => Ok(rejected(&body)),
            Protocol::Grpc => {
                grpc_outcome(&head.headers, &trailers).map(|()| rejected(body.get(5..).unwrap_or_default()))
            }
        }
    }

    fn request(&self, signal: Signal, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let Target { endpoint, protocol, headers, .. } = &self.target;
        let path = endpoint.path(*protocol, signal);
        let scheme = if endpoint.tls { "https" } else { "http" };
        let (uri, kind) = match protocol {
            Protocol::Http => (path, "application/x-protobuf"),
            Protocol::Grpc => (format!("{scheme}://{}{path}", endpoint.address()), "application/grpc"),
        };
        let mut request =
            Request::post(uri).body(Full::new(body)).map_err(|error| format!("no such URL: {error}"))?;
        let ours = request.headers_mut();
        *ours = headers.clone();
        ours.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        ours.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))),
        );
        match protocol {
            Protocol::Grpc => drop(ours.insert(header::TE, HeaderValue::from_static("trailers"))),
            Protocol::Http => {
                let host = HeaderValue::from_str(&endpoint.address()).map_err(|error| error.to_string())?;
                ours.insert(header::HOST, host);
            }
        }
        Ok(request)
    }

    async fn roundtrip(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, BoxError> {
        let lost = match &mut self.connection {
            None => true,
            Some(Connection::Http(sender)) => sender.ready().await.is_err(),
            Some(Connection::Grpc(sender)) => sender.ready().await.is_err(),
        };
        if lost {
            self.connection = Some(connect(&self.target).await?);
        }
        match &mut self.connection {
            None => Err("no connection".into()),
            Some(Connection::Http(sender)) => Ok(sender.send_request(request).await?),
            Some(Connection::Grpc(sender)) => Ok(sender.send_request(request).await?),
        }
    }
}

async fn connect(target: &Target) -> Result<Connection, BoxError> {
    let stream = TcpStream::connect(target.endpoint.address()).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &target.tls else { return shake_hands(stream, target.protocol).await };
    let name = ServerName::try_from(target.endpoint.name().to_owned())?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    shake_hands(stream, target.protocol).await
}

async fn shake_hands<S>(stream: S, protocol: Protocol) -> Result<Connection, BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    Ok(match protocol {
        Protocol::Http => {
            let (sender, connection) = http1::handshake(stream).await?;
            // its end shows at the next message
            tokio::spawn(connection);
            Connection::Http(sender)
        }
        Protocol::Grpc => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.timer(TokioTimer::new()).handshake(stream).await?;
            tokio::spawn(connection);
            Connection::Grpc(sender)
        }
    })
}

/// By OTLP: these and no others are worth a second attempt.
fn http_failure(status: StatusCode) -> Failure {
    let may_pass = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    Failure { may_pass, why: format!("HTTP status {status}") }
}

/// A call that fails at once has its status in the headers.
fn grpc_outcome(headers: &HeaderMap, trailers: &HeaderMap) -> Result<(), Failure> {
    let find =
        |name: &str| trailers.get(name).or_else(|| headers.get(name)).and_then(|value| value.to_str().ok());
    match find("grpc-status") {
        Some("0") => Ok(()),
        Some(status) => {
            // CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
            let may_pass = matches!(status, "1" | "4" | "8" | "10" | "11" | "14" | "15");
            let said = find("grpc-message").unwrap_or_default();
            Err(Failure { may_pass, why: format!("gRPC status {status} {said}") })
        }
        None => Err(Failure { may_pass: true, why: "no gRPC status".to_owned() }),
    }
}

/// What the collector says of parts that it did not take; the answers to all signals have one form.
fn rejected(body: &[u8]) -> Rejected {
    let partial = ExportTraceServiceResponse::decode(body).ok()?.partial_success?;
    (partial.rejected_spans > 0).then(|| format!("{}: {}", partial.rejected_spans, partial.error_message))
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
