//! Certificates change while calls go on.

use std::fs::{create_dir, rename, write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::certificates::{Files, Pair};
use crate::world::{Tollgate, asks, connects_and_asks, dial, eventually, secure};

const RELOADED: &str = "tollgate_tls_reloads_total{port=\"grpc\",result=\"success\"}";
const REFUSED: &str = "tollgate_tls_reloads_total{port=\"grpc\",result=\"error\"}";

async fn shown(server: &Tollgate, config: &Arc<ClientConfig>) -> Vec<u8> {
    let stream = dial(server.grpc, config.clone()).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap().to_vec()
}

/// Puts a pair in place as Kubernetes does: a new folder, and a link that is replaced at once.
fn project(folder: &Path, version: &str, pair: &Pair) {
    let data = folder.join(version);
    create_dir(&data).unwrap();
    write(data.join("tls.crt"), &pair.cert).unwrap();
    write(data.join("tls.key"), &pair.key).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

/// What the load has done.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    done: AtomicU64,
}

impl Load {
    /// Calls on one connection and on ever new ones until it is over; the failures.
    async fn calls(&self, server: &Tollgate, config: Arc<ClientConfig>) -> Vec<String> {
        let kept = secure(server.grpc, &config).await.unwrap();
        let mut failures = Vec::new();
        while !self.over.load(Relaxed) {
            failures.extend(asks(&kept, "example").await.err().map(|status| status.to_string()));
            failures.extend(connects_and_asks(server.grpc, &config).await.err());
            self.done.fetch_add(2, Relaxed);
        }
        failures
    }

    /// Waits for some more calls.
    async fn goes_on(&self) {
        let goal = self.done.load(Relaxed) + 20;
        eventually("there are more calls", || async { self.done.load(Relaxed) >= goal }).await;
    }
}

/// Waits until the server shows the certificate of `pair`.
async fn is_shown(server: &Tollgate, client: &Arc<ClientConfig>, pair: &Pair) {
    eventually("the new certificate is shown", || async { shown(server, client).await == der(pair) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_loses_no_call() {
    let files = Files::new();
    let folder = files.folder().join("secret");
    create_dir(&folder).unwrap();
    project(&folder, "..1", &files.authority.signs(&["localhost"]));
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    }
    let set = |key: &str, file: &str| {
        (format!("TOLLGATE__GRPC__TLS__{key}"), folder.join(file).display().to_string())
    };
    let server = Tollgate::start(&[set("CERT", "tls.crt"), set("KEY", "tls.key")]);
    let (client, load) = (files.client(), Load::default());
    let rotate = async {
        for turn in 2..=4 {
            load.goes_on().await;
            let pair = files.authority.signs(&["localhost"]);
            project(&folder, &format!("..{turn}"), &pair);
            is_shown(&server, &client, &pair).await;
        }
        load.goes_on().await;
        load.over.store(true, Relaxed);
    };
    let (one, other, ()) =
        tokio::join!(load.calls(&server, files.client()), load.calls(&server, files.client()), rotate);
    println!("{} calls over three rotations", load.done.load(Relaxed));
    assert_eq!([one, other].concat(), [""; 0]);
    assert_eq!(server.metric(RELOADED).await, 3);
}

#[tokio::test]
async fn half_of_a_new_pair_changes_nothing_and_is_said() {
    let files = Files::new();
    let before = files.authority.signs(&["localhost"]);
    files.keep(&before);
    let server = Tollgate::start(&files.settings("GRPC"));
    let after = files.authority.signs(&["localhost"]);
    write(files.path("server.pem"), &after.cert).unwrap();
    eventually("the half is counted", || async { server.metric(REFUSED).await == 1 }).await;
    assert!(server.has_said(&["\"error\"", "cert and key do not belong together", "stay in use"]));
    assert_eq!(shown(&server, &files.client()).await, der(&before));
    write(files.path("server.key"), &after.key).unwrap();
    eventually("the whole is taken over", || async { server.metric(RELOADED).await == 1 }).await;
    assert_eq!(shown(&server, &files.client()).await, der(&after));
    write(files.path("server.pem"), "no certificate").unwrap();
    eventually("nonsense is counted", || async { server.metric(REFUSED).await == 2 }).await;
    assert_eq!(shown(&server, &files.client()).await, der(&after));
}

#[tokio::test]
async fn an_authority_that_is_taken_away_trusts_nobody_any_more() {
    let files = Files::new();
    let server = Tollgate::start(&files.mutual("GRPC", "required"));
    let client = files.client_named(&["x"]);
    connects_and_asks(server.grpc, &client).await.unwrap();
    let other = crate::certificates::Authority::new("The next authority");
    write(files.path("ca.pem"), &other.pem).unwrap();
    eventually("the authority is taken over", || async { server.metric(RELOADED).await == 1 }).await;
    // also where a session could be resumed
    assert!(connects_and_asks(server.grpc, &client).await.is_err());
}
