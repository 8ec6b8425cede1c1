//! One GET of the console's state.

use std::time::Duration;

use anyhow::Context as _;
use http::header::HOST;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATH: &str = "/console/state";
/// The admin port, if the address names none.
const PORT: u16 = 6070;
/// Longest time that a server may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const LARGEST: usize = 16 << 20;

/// What the console of the server at `admin` shows, as JSON.
pub(super) async fn fetch(admin: &str) -> anyhow::Result<String> {
    let authority = authority(admin)?;
    let asked = timeout(ANSWER, ask(&authority)).await;
    asked
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {ANSWER:?}")))
        .with_context(|| format!("the admin port {authority} cannot be asked"))
}

async fn ask(authority: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let request = Request::get(PATH).header(HOST, authority).body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        anyhow::ensure!(status == StatusCode::OK, "it answers {status}: is this an admin port?");
        Ok(String::from_utf8(body.to_vec())?)
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(ended.err().map_or_else(|| anyhow::anyhow!("it hung up"), anyhow::Error::from)),
    }
}

/// `host:port` of `http://host:port`, `host:port` or `host`.
fn authority(admin: &str) -> anyhow::Result<String> {
    anyhow::ensure!(!admin.starts_with("https://"), "--admin {admin}: the admin port speaks plain HTTP");
    let plain = admin.strip_prefix("http://").unwrap_or(admin).trim_end_matches('/');
    let uri: Uri =
        format!("http://{plain}").parse().with_context(|| format!("--admin {admin} is no address"))?;
    let whole = uri.authority().filter(|_| uri.path() == "/").map(http::uri::Authority::as_str);
    let Some(whole) = whole else { anyhow::bail!("--admin {admin} is no host:port") };
    // what follows the host is a port or nothing
    anyhow::ensure!(
        uri.port_u16().is_some() || uri.host() == Some(whole),
        "--admin {admin} has no valid port"
    );
    Ok(if uri.port().is_some() { whole.to_owned() } else { format!("{whole}:{PORT}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_scheme_and_need_not_have_a_port() {
        for (admin, expected) in [
            ("http://127.0.0.1:7/", "127.0.0.1:7"),
            ("localhost", "localhost:6070"),
            ("[::1]:7", "[::1]:7"),
            ("http://[::1]", "[::1]:6070"),
        ] {
            assert_eq!(authority(admin).unwrap(), expected);
        }
        for wrong in ["https://h:1", "", "http://h/console", "h:x"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = format!("{:#}", fetch(&unused.to_string()).await.unwrap_err());
        assert!(error.starts_with(&format!("the admin port {unused} cannot be asked: ")), "{error}");
    }
}
