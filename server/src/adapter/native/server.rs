//! The native API as a service of tonic: as generated, but for the stream, whose messages stay bytes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes};
use hyper::body::Body as HttpBody;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tollgate_proto::tollgate::v1::rate_limiter_server::{RateLimiter as _, RateLimiterServer, SERVICE_NAME};
use tonic::body::Body;
use tonic::codec::{
    Codec, CompressionEncoding, DecodeBuf, Decoder, EnabledCompressionEncodings, EncodeBuf, Encoder,
};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use super::memo::Memory;
use super::stream::Answers;
use super::{NativeService, NotDecided};
use crate::access::Scope;
use crate::adapter::bounded::{Bounded, Crowd};

const CHECK: &str = "/tollgate.v1.RateLimiter/Check";
const LEASE: &str = "/tollgate.v1.RateLimiter/Lease";
const RETURN_LEASE: &str = "/tollgate.v1.RateLimiter/ReturnLease";
const STREAM: &str = "/tollgate.v1.RateLimiter/CheckStream";

type Serving = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Cancelled when the connection that carries a call is about to be closed: an extension of requests.
#[derive(Clone, Debug, Default)]
pub struct Leaving(pub CancellationToken);

/// The service.
#[derive(Clone)]
pub struct NativeServer {
    service: NativeService,
    calls: RateLimiterServer<NativeService>,
    max_message_bytes: usize,
    /// Of all streams that this value and its clones serve: those of one worker.
    memory: Memory,
}

impl NativeServer {
    /// Serves `service`, whose messages have at most `max_message_bytes`.
    #[must_use]
    pub fn new(service: NativeService, max_message_bytes: usize) -> NativeServer {
        let calls = RateLimiterServer::new(service.clone())
            .max_decoding_message_size(max_message_bytes)
            .accept_compressed(CompressionEncoding::Gzip);
        NativeServer { service, calls, max_message_bytes, memory: Memory::default() }
    }
}

impl NamedService for NativeServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for NativeServer
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Serving;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Serving {
        let max = self.max_message_bytes;
        let service = self.service.clone();
        match request.uri().path() {
            STREAM => {}
            CHECK => {
                return unary((service, max), request, async |service: NativeService, asked| {
                    service.check(asked).await
                });
            }
            LEASE => {
                return unary((service, max), request, async |service: NativeService, asked| {
                    service.lease(asked).await
                });
            }
            RETURN_LEASE => {
                let call = async |service: NativeService, asked| service.return_lease(asked).await;
                return unary((service, max), request, call);
            }
            _ => return Box::pin(self.calls.call(request)),
        }
        let service = service.within(Scope::of(request.extensions()).cloned());
        let memory = self.memory.clone();
        let leaving = request.extensions().get::<Leaving>().cloned().unwrap_or_default();
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw)
                .apply_max_message_size_config(Some(max), None)
                .apply_compression_config(gzip(), EnabledCompressionEncodings::default());
            Ok(grpc.streaming(Checks { service, memory, leaving }, request).await)
        })
    }
}

fn gzip() -> EnabledCompressionEncodings {
    let mut gzip = EnabledCompressionEncodings::default();
    gzip.enable(CompressionEncoding::Gzip);
    gzip
}

/// A call with one request, which is not decoded if it holds too much.
fn unary<B, Asked, Answer, Answering>(
    (service, max): (NativeService, usize),
    request: http::Request<B>,
    call: impl Fn(NativeService, Request<Asked>) -> Answering + Send + 'static,
) -> Serving
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
    Asked: Message + Default + Send + 'static,
    Answer: Message + Send + 'static,
    Answering: Future<Output = Result<Response<Answer>, Status>> + Send + 'static,
{
    Box::pin(async move {
        let mut grpc = Grpc::new(Bounded::<Answer, Asked>::new(refuse))
            .apply_max_message_size_config(Some(max), None)
            .apply_compression_config(gzip(), EnabledCompressionEncodings::default());
        let call = tower::service_fn(move |asked| call(service.clone(), asked));
        Ok(grpc.unary(call, request).await)
    })
}

fn refuse(Crowd { what, found, most }: Crowd) -> Status {
    NotDecided::field("descriptors", format!("has {found} {what}, more than {most}")).into()
}

/// The stream's handler.
struct Checks {
    service: NativeService,
    memory: Memory,
    leaving: Leaving,
}

impl StreamingService<Bytes> for Checks {
    type Response = Vec<u8>;
    type ResponseStream = Answers<Streaming<Bytes>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let beside = (self.leaving.0.clone(), self.memory.clone());
        let answers = Answers::new(self.service.clone(), request.into_inner(), beside);
        std::future::ready(Ok(Response::new(answers)))
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
