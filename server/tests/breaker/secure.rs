//! Servers that call each other over TLS, with certificates on both sides.

use std::path::Path;

use crate::redis_world::{Certificates, Server, eventually};
use crate::world::{SOON, Tollgate};

/// A server that trusts the others' certificates if `ca` has signed them.
fn start(redis: &Server, certificates: &Certificates, ca: &Path) -> Tollgate {
    let text = |path: &Path| path.display().to_string();
    let settings = [
        ("TOLLGATE__STORE__REDIS__URL", redis.url()),
        ("TOLLGATE__PEERS__TOKEN", "fleet".to_owned()),
        ("TOLLGATE__LOG__LEVEL", "debug".to_owned()),
        ("TOLLGATE__GRPC__TLS__CERT", text(&certificates.server_certificate())),
        ("TOLLGATE__GRPC__TLS__KEY", text(&certificates.server_key())),
        ("TOLLGATE__GRPC__TLS__CLIENT_CA", text(&certificates.ca())),
        ("TOLLGATE__GRPC__TLS__CLIENT_AUTH", "required".to_owned()),
        ("TOLLGATE__PEERS__TLS__CA", text(ca)),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Tollgate::start(&[], &settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_with_tls_reach_each_other_and_no_impostor() {
    let redis = Server::start().await;
    let certificates = Certificates::new();
    let (one, other) =
        (start(&redis, &certificates, &certificates.ca()), start(&redis, &certificates, &certificates.ca()));
    for server in [&one, &other] {
        eventually(SOON, "it reaches the other", || async {
            server.has_said(&["the other server can be reached"])
        })
        .await;
        assert!(!server.has_said(&["cannot be reached"]));
    }
    let doubting = start(&redis, &certificates, &certificates.unknown_ca());
    eventually(SOON, "it does not trust the others", || async {
        doubting.has_said(&["the other server cannot be reached", "UnknownIssuer"])
    })
    .await;
    assert!(!doubting.has_said(&["the other server can be reached"]));
}
