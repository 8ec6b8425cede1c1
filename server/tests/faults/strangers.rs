//! TLS: who is trusted, and who is not.

use std::fs::read;
use std::path::PathBuf;
use std::sync::Arc;

use tollgate_server::store::Fault;
use tollgate_server::store::redis::{Access, Place, RedisStore, Target, Tls};

use super::limiter::Limiter;
use crate::redis_world::{Certificates, Server};
use crate::store_world::{YEAR, access, fixed, options, redis_store, single};

fn trusting(authority: PathBuf) -> Tls {
    Tls { authority: Some(read(authority).unwrap()), ..Tls::default() }
}

fn identified(certificates: &Certificates) -> Tls {
    let identity =
        (read(certificates.client_certificate()).unwrap(), read(certificates.client_key()).unwrap());
    Tls { identity: Some(identity), ..trusting(certificates.ca()) }
}

fn store(target: Target, tls: Option<Tls>) -> Arc<RedisStore> {
    redis_store(options(Access { tls, ..access(target) }))
}

async fn passes(store: &Arc<RedisStore>) {
    assert!(Limiter::new(store, fixed(1_000, YEAR)).pass("v").await);
    assert_eq!(store.check().await.unwrap().servers, 1);
}

/// What the fault is, and how `check` puts it.
async fn refused(store: &Arc<RedisStore>) -> (Fault, String) {
    let fault = Limiter::new(store, fixed(1_000, YEAR)).take("v", 1).await.unwrap_err();
    let text = store.check().await.unwrap_err().to_string();
    println!("{}: {text}", fault.name());
    (fault, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_works_with_whom_it_should_only() {
    let certificates = Certificates::new();
    let server = Server::builder().tls(&certificates).start().await;
    let target = || single(server.port());
    passes(&store(target(), Some(trusting(certificates.ca())))).await;
    passes(&store(target(), Some(identified(&certificates)))).await;

    let (fault, text) = refused(&store(target(), Some(trusting(certificates.unknown_ca())))).await;
    assert_eq!(fault, Fault::Unreachable);
    assert!(text.contains("UnknownIssuer"), "{text}");
    // the host's name may be wrong, its chain may not
    let any = Tls { any_host: true, ..trusting(certificates.unknown_ca()) };
    assert_eq!(refused(&store(target(), Some(any))).await.0, Fault::Unreachable);
    // plain text to a port that speaks TLS
    assert_eq!(refused(&store(target(), None)).await.0, Fault::Unreachable);

    // no certificate is for this address of the same machine
    let elsewhere = || Target::Single(Place::Tcp("127.0.0.2".to_owned(), server.port()));
    server.config_set("bind", "127.0.0.1 127.0.0.2").await;
    let (fault, text) = refused(&store(elsewhere(), Some(trusting(certificates.ca())))).await;
    assert_eq!(fault, Fault::Unreachable);
    assert!(text.contains("not valid for"), "{text}");
    let any = Tls { any_host: true, ..trusting(certificates.ca()) };
    passes(&store(elsewhere(), Some(any))).await;
    server.assert_all_have_ttl("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_asks_for_a_certificate() {
    let certificates = Certificates::new();
    let server = Server::builder().mutual_tls(&certificates).start().await;
    passes(&store(single(server.port()), Some(identified(&certificates)))).await;
    let (fault, text) = refused(&store(single(server.port()), Some(trusting(certificates.ca())))).await;
    assert_eq!(fault, Fault::Unreachable);
    assert!(text.contains("ertificate"), "{text}");
    server.assert_all_have_ttl("").await;
}
