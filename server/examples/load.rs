//! A closed-loop load of `ShouldRateLimit` calls over plain HTTP/2, for `benches/rls.py` where h2load cannot
//! help: it varies the key. Usage: `load ADDRESS CONNECTIONS STREAMS SECONDS KEYS`. Prints the number of
//! answers; fails if one of them is not a gRPC OK.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Uri};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const PRIME: u64 = 7_919;

fn message(key: u64) -> Bytes {
    let entry = Entry { key: "key".into(), value: format!("value-{key:012}") };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    let request = RateLimitRequest { domain: "bench".into(), descriptors: vec![descriptor], hits_addend: 0 };
    let body = request.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &body].concat().into()
}

async fn call(client: &SendRequest<Bytes>, uri: &Uri, message: Bytes) -> Result<(), Failure> {
    let request = Request::post(uri.clone())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "1S")
        .body(())?;
    let (response, mut stream) = client.clone().ready().await?.send_request(request, false)?;
    stream.send_data(message, true)?;
    let mut body = response.await?.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?.ok_or("no trailers")?;
    if trailers.get("grpc-status").is_some_and(|status| status == "0") {
        Ok(())
    } else {
        Err(format!("{trailers:?}").into())
    }
}

async fn stream(
    client: SendRequest<Bytes>,
    uri: Uri,
    messages: &'static [Bytes],
    first: u64,
    end: Instant,
) -> Result<u64, Failure> {
    let (mut done, mut next) = (0, first);
    while Instant::now() < end {
        let place = usize::try_from(next)? % messages.len();
        call(&client, &uri, messages[place].clone()).await?;
        done += 1;
        next = next.wrapping_add(PRIME);
    }
    Ok(done)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections, streams, seconds, keys] = arguments.as_slice() else {
        return Err("usage: load ADDRESS CONNECTIONS STREAMS SECONDS KEYS".into());
    };
    let (connections, streams): (u64, u64) = (connections.parse()?, streams.parse()?);
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let messages: Vec<Bytes> = (0..keys.parse()?).map(message).collect();
    let messages: &'static [Bytes] = messages.leak();
    let uri: Uri = format!("http://{address}{PATH}").parse()?;
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (client, driver) = h2::client::handshake(socket).await?;
        tokio::spawn(driver);
        for number in 0..streams {
            let first = (connection * streams + number) * 104_729;
            tasks.spawn(stream(client.clone(), uri.clone(), messages, first, end));
        }
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    println!("{done}");
    Ok(())
}
