//! TLS to the management server, with the names that Envoy Gateway's certificates have.

use std::fs::write;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

use crate::certificates::{Authority, Pair};
use crate::management::{Management, bind, config};
use crate::world::{Server, soon};

const GATEWAY: [&str; 3] =
    ["envoy-gateway", "envoy-gateway.envoy-gateway-system", "envoy-gateway.envoy-gateway-system.svc"];
const CLIENT: [&str; 1] = ["*.envoy-gateway-system"];

fn acceptor(authority: &Authority, pair: &Pair) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A management server that speaks TLS 1.3 with clients of `authority` only.
async fn management(authority: &Authority, pair: &Pair, address: &str) -> Management {
    let acceptor = acceptor(authority, pair);
    let listener = bind(address).await;
    let address = listener.local_addr().unwrap();
    let (tell, streams) = tokio::sync::mpsc::channel(8);
    let mut incoming = TcpListenerStream::new(listener);
    let accepting = tokio::spawn(async move {
        while let Some(stream) = incoming.next().await {
            let Ok(mut stream) = acceptor.accept(stream.unwrap()).await else { continue };
            // tonic takes no stream of rustls without its own TLS
            let (mut clear, inner) = tokio::io::duplex(1 << 16);
            tell.send(Ok(inner)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut clear).await });
        }
    });
    Management::over(address, ReceiverStream::new(streams)).with(accepting)
}

#[tokio::test]
async fn mutual_tls_with_a_name_of_its_own_and_files_that_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let keep = |authority: &Authority| {
        let pair = authority.signs(&CLIENT);
        write(path("ca.crt"), &authority.pem).unwrap();
        write(path("tls.crt"), &pair.cert).unwrap();
        write(path("tls.key"), &pair.key).unwrap();
    };
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    keep(&one);
    let mut gateway = management(&one, &one.signs(&GATEWAY), "127.0.0.1:0").await;
    let address = gateway.address.to_string();
    let (ca, cert, key) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    let variables = [
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &*ca),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &*cert),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &*key),
        ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "envoy-gateway"),
    ];
    let server = Server::start(&address, &variables).await;
    let (mut call, _) = gateway.call().await;
    call.sends("1", &[config("shop", 4, 0)]).await;
    assert_eq!(server.asks("shop", "user", "ann").await.unwrap(), Code::OverLimit);

    // another authority on both sides: the files are read at the next connect
    drop(gateway);
    keep(&two);
    let mut gateway = management(&two, &two.signs(&GATEWAY), &address).await;
    drop(call);
    let (_call, first) = gateway.call().await;
    assert_eq!(&*first.version_info, "1");
}

#[tokio::test]
async fn a_server_with_another_name_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("one");
    let ca = folder.path().join("ca.crt").display().to_string();
    write(&ca, &authority.pem).unwrap();
    let acceptor = acceptor(&authority, &authority.signs(&["someone-else"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let variables = [
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &*ca),
        ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "envoy-gateway"),
    ];
    let _server = Server::start(&address, &variables).await;
    for _ in 0..2 {
        let (stream, _) = soon(listener.accept()).await.unwrap();
        let error = soon(acceptor.accept(stream)).await.unwrap_err().to_string();
        assert!(error.contains("BadCertificate") || error.contains("certificate"), "{error}");
    }
}
