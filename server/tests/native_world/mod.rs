//! The native API over a real connection, in front of a store of the test's choice.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses what it needs of it, and may panic")]

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::admin_client::AdminClient;
use tollgate_proto::tollgate::v1::admin_server::AdminServer;
use tollgate_proto::tollgate::v1::rate_limiter_client::RateLimiterClient;
use tollgate_server::adapter::native::{AdminService, Leases, Leaving, NativeServer, NativeService};
use tollgate_server::admin::Writes;
use tollgate_server::engine::Engine;
use tollgate_server::overload::Gate;
use tonic::transport::{Channel, Server};

pub(crate) const TOKEN: &str = "letmein";

/// Clients of one server that lives as long as this.
pub(crate) struct Native {
    pub(crate) limiter: RateLimiterClient<Channel>,
    pub(crate) admin: AdminClient<Channel>,
    serving: tokio::task::JoinHandle<()>,
}

impl Native {
    /// A server whose connections are about to be closed when the token is cancelled.
    pub(crate) async fn leaving(engine: Arc<Engine>) -> (CancellationToken, Native) {
        let leaving = CancellationToken::new();
        (leaving.clone(), Native::serve_until(engine, "", leaving, Gate::default()).await)
    }

    pub(crate) async fn serve(engine: Arc<Engine>, token: &str) -> Native {
        Native::serve_until(engine, token, CancellationToken::new(), Gate::default()).await
    }

    /// A server behind `gate`.
    pub(crate) async fn behind(engine: Arc<Engine>, gate: Gate) -> Native {
        Native::serve_until(engine, "", CancellationToken::new(), gate).await
    }

    async fn serve_until(engine: Arc<Engine>, token: &str, leaving: CancellationToken, gate: Gate) -> Native {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let writes = Arc::new(Writes::with(token));
        let leases = Leases::new(engine.clone(), Leases::own_key());
        let tell = move |mut request: http::Request<tonic::body::Body>| {
            request.extensions_mut().insert(Leaving(leaving.clone()));
            request
        };
        let server = Server::builder()
            .layer(tower::util::MapRequestLayer::new(tell))
            .add_service(NativeServer::new(NativeService::new(engine.clone(), leases).behind(gate), 4 << 20))
            .add_service(AdminServer::new(AdminService::new(engine, writes)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { server.await.unwrap() });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Native { limiter: RateLimiterClient::new(channel.clone()), admin: AdminClient::new(channel), serving }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn descriptor(key: &str, value: &str) -> wire::Descriptor {
    let entry = wire::Entry { key: key.into(), value: value.into() };
    wire::Descriptor { entries: vec![entry], cost: None }
}

pub(crate) fn check(keys: &[&str]) -> wire::CheckRequest {
    let descriptors = keys.iter().map(|key| descriptor(key, "v")).collect();
    wire::CheckRequest { domain: "d".into(), descriptors, explain: true, ..Default::default() }
}
