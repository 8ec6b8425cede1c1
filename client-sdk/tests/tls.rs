//! Encrypted connections of the limiter and the fleet client, to a real TLS server of this process.
#![cfg(feature = "tls")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tollgate_client::CircuitBreaker;
use tollgate_client::fleet::{FleetCircuit, FleetClient};
use tollgate_client::limiter::{DecisionSource, LeaseMode, RateLimiterClient, Request};
use tollgate_client::testing::InProcessLimiter;
use tollgate_client::tls::Tls;
use tollgate_core::limit::{Limit, Rate, TokenBucket};
use tollgate_core::time::Span;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// A certificate and its key, in PEM.
struct Identity(String, String);

/// An authority with what it has signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Identity(params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

/// What the server asks for.
struct Door<'a> {
    name: &'static str,
    /// Clients have to show a certificate of this authority.
    clients: Option<&'a Authority>,
    alpn: &'static [u8],
}

const OPEN: Door<'static> = Door { name: "limiter.test", clients: None, alpn: b"h2" };

fn config(authority: &Authority, door: &Door<'_>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let begun = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let begun = match door.clients {
        None => begun.unwrap().with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            begun.unwrap().with_client_cert_verifier(verifier)
        }
    };
    let Identity(certificate, key) = authority.sign(door.name);
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let mut config =
        begun.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
    config.alpn_protocols = vec![door.alpn.to_vec()];
    config
}

/// Ends TLS and hands on to `plain`.
async fn tls_before(plain: SocketAddr, config: ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, acceptor) = (listener.local_addr().unwrap(), TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(hand_on(stream, acceptor.clone(), plain));
        }
    });
    address
}

async fn hand_on(stream: TcpStream, acceptor: TlsAcceptor, plain: SocketAddr) {
    // a client that does not trust us ends here
    let Ok(mut inside) = acceptor.accept(stream).await else { return };
    let mut outside = TcpStream::connect(plain).await.unwrap();
    let _ended = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
}

fn limiter() -> InProcessLimiter {
    let bucket = TokenBucket::new(Rate::new(1_000, Span::SECOND).unwrap(), 1_000).unwrap();
    InProcessLimiter::builder().limit("shop", &["tenant"], Limit::TokenBucket(bucket)).build().unwrap()
}

/// Who decides for a client with these settings: the service, if it can be reached.
async fn decided_by(target: String, tls: Tls) -> DecisionSource {
    let client = RateLimiterClient::builder(target)
        .tls(tls)
        .domain("shop")
        .deadline(Duration::from_secs(5))
        .lease(LeaseMode::Off)
        .connect_lazy()
        .unwrap();
    client.check(Request::of([("tenant", "acme")])).await.source
}

#[tokio::test]
async fn the_limiter_is_asked_over_tls() {
    let (served, authority) = (limiter().serve().await.unwrap(), Authority::new());
    let address = tls_before(served.address(), config(&authority, &OPEN)).await;
    let named = || Tls::builder().ca_pem(authority.pem.clone()).server_name("limiter.test");
    let source = decided_by(format!("https://{address}"), named().build().unwrap()).await;
    assert_eq!(source, DecisionSource::Service);
    let source = decided_by(format!("static:{address}"), named().build().unwrap()).await;
    assert_eq!(source, DecisionSource::Service);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    let tls = Tls::builder().ca_file(&file).server_name("limiter.test").build().unwrap();
    assert_eq!(decided_by(format!("https://{address}"), tls).await, DecisionSource::Service);
}

#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_is_not_asked() {
    let (served, authority) = (limiter().serve().await.unwrap(), Authority::new());
    let h1 = Door { alpn: b"http/1.1", ..OPEN };
    let address = tls_before(served.address(), config(&authority, &OPEN)).await;
    let old = tls_before(served.address(), config(&authority, &h1)).await;
    let trusted = || Tls::builder().ca_pem(authority.pem.clone());
    for (address, tls) in [
        (address, Tls::builder().ca_pem(Authority::new().pem).server_name("limiter.test")),
        (address, trusted().server_name("another.test")),
        // the certificate does not name the address
        (address, trusted()),
        (old, trusted().server_name("limiter.test")),
    ] {
        let shown = format!("{tls:?}");
        let source = decided_by(format!("https://{address}"), tls.build().unwrap()).await;
        assert_eq!(source, DecisionSource::FailOpen, "{shown}");
    }
}

#[tokio::test]
async fn a_server_may_ask_for_a_certificate() {
    let (served, authority) = (limiter().serve().await.unwrap(), Authority::new());
    let mutual = Door { clients: Some(&authority), ..OPEN };
    let address = tls_before(served.address(), config(&authority, &mutual)).await;
    let trusted = || Tls::builder().ca_pem(authority.pem.clone()).server_name("limiter.test");
    let Identity(certificate, key) = authority.sign("client");
    let known = trusted().client_pem(certificate, key).build().unwrap();
    let target = || format!("https://{address}");
    assert_eq!(decided_by(target(), known).await, DecisionSource::Service);
    assert_eq!(decided_by(target(), trusted().build().unwrap()).await, DecisionSource::FailOpen);
    let Identity(certificate, key) = Authority::new().sign("client");
    let stranger = trusted().client_pem(certificate, key).build().unwrap();
    assert_eq!(decided_by(target(), stranger).await, DecisionSource::FailOpen);
}

/// What a server was asked: scheme and path, and the token.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A plain server that knows no method, and writes down who asks.
async fn recording() -> (SocketAddr, Asked) {
    let (asked, listener) = (Asked::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (heard, address) = (asked.clone(), listener.local_addr().unwrap());
    let handler = move |request: http::Request<axum::body::Body>| {
        let scheme = request.uri().scheme_str().unwrap_or_default();
        let token = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
        heard.lock().unwrap().push((format!("{scheme}:{}", request.uri().path()), token.to_owned()));
        std::future::ready(tonic::Status::unimplemented("not here").into_http::<axum::body::Body>())
    };
    let routes = Routes::from(axum::Router::new().fallback(handler));
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
    (address, asked)
}

/// Waits for a question whose path has this part, for ten seconds at most.
async fn heard(asked: &Asked, part: &str) -> (String, String) {
    for _ in 0..2_000 {
        let found = asked.lock().unwrap().iter().find(|(path, _)| path.contains(part)).cloned();
        if let Some(found) = found {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nobody asked for {part}: {asked:?}");
}

#[tokio::test]
async fn both_clients_say_who_they_are_over_tls() {
    let ((plain, asked), authority) = (recording().await, Authority::new());
    let address = tls_before(plain, config(&authority, &OPEN)).await;
    let tls = Tls::builder().ca_pem(authority.pem.clone()).server_name("limiter.test").build().unwrap();
    let limiter = RateLimiterClient::builder(format!("https://{address}"))
        .tls(tls.clone())
        .bearer_token("limiter-token")
        .domain("shop")
        .connect_lazy()
        .unwrap();
    limiter.check(Request::of([("tenant", "acme")])).await;
    let stream = heard(&asked, "CheckStream").await;
    assert_eq!(
        stream,
        ("https:/tollgate.v1.RateLimiter/CheckStream".to_owned(), "Bearer limiter-token".to_owned())
    );
    let fleet = FleetClient::builder(format!("https://{address}"))
        .tls(tls)
        .bearer_token("fleet-token")
        .connect_lazy()
        .unwrap();
    let circuit = FleetCircuit::of(&fleet).key("shop", "payments");
    let breaker = CircuitBreaker::builder("payments").fleet(circuit).build().unwrap();
    breaker.try_acquire().unwrap().success();
    let sync = heard(&asked, "CircuitBreakers/Sync").await;
    assert_eq!(sync, ("https:/tollgate.v1.CircuitBreakers/Sync".to_owned(), "Bearer fleet-token".to_owned()));
}

#[tokio::test]
async fn a_target_and_tls_must_agree() {
    let tls = || Tls::builder().ca_pem(Authority::new().pem).build().unwrap();
    let limiter = RateLimiterClient::builder("http://limiter:8081").tls(tls()).connect_lazy().unwrap_err();
    assert_eq!(limiter.to_string(), "target: with tls it must begin with https://");
    let fleet = FleetClient::builder("http://limiter:8081").tls(tls()).connect_lazy().unwrap_err();
    assert!(fleet.to_string().contains("address must be https:// with tls"), "{fleet}");
}
