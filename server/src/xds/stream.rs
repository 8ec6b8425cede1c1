//! One stream: what is said on it, and in which order.

use std::fmt::Write as _;
use std::pin::Pin;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use prost_types::value::Kind;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tollgate_proto::envoy::config::core::v3::Node;
use tollgate_proto::envoy::config::core::v3::node::UserAgentVersionType;
use tollgate_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tollgate_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tollgate_proto::google::rpc::Status;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Extensions, Request, Streaming};

use super::{TYPE_URL, XdsNode, XdsOptions};
use crate::version::VERSION;

/// Bytes of the errors of one response: servers take messages of 4 MiB, and nobody reads more.
const MAX_DETAIL: usize = 1 << 20;
/// A stream that is open.
pub(super) struct Stream {
    say: UnboundedSender<DiscoveryRequest>,
    /// Servers may send nothing at all, not even headers, before the first response.
    opening: Option<Opening>,
    heard: Option<Streaming<DiscoveryResponse>>,
}

type Opened = Result<tonic::Response<Streaming<DiscoveryResponse>>, tonic::Status>;
type Opening = Pin<Box<dyn Future<Output = Opened> + Send>>;

impl Stream {
    /// Opens a stream and asks for everything that is newer than `version`.
    pub(super) fn open(
        channel: Channel,
        options: &XdsOptions,
        metadata: &MetadataMap,
        version: &str,
    ) -> anyhow::Result<Stream> {
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(options.max_message_bytes);
        let (say, said) = unbounded_channel();
        // the nonce is of the stream, so it is empty in a new one
        let first = DiscoveryRequest {
            version_info: version.to_owned(),
            node: Some(node(&options.node)),
            type_url: TYPE_URL.to_owned(),
            ..DiscoveryRequest::default()
        };
        let said = UnboundedReceiverStream::new(said);
        let request = Request::from_parts(metadata.clone(), Extensions::default(), said);
        let opening: Opening = Box::pin(async move { client.stream_aggregated_resources(request).await });
        let stream = Stream { say, opening: Some(opening), heard: None };
        stream.send(first)?;
        Ok(stream)
    }

    /// The next response; `None` if the server has ended the stream.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<DiscoveryResponse>> {
        if let Some(opening) = self.opening.take() {
            self.heard = Some(opening.await.map_err(|status| described(&status))?.into_inner());
        }
        let Some(heard) = &mut self.heard else { return Ok(None) };
        heard.next().await.transpose().map_err(|status| described(&status))
    }

    /// Accepts `response`, or refuses it for `problems`; `version` is in force.
    pub(super) fn answer(
        &self,
        response: &DiscoveryResponse,
        version: &str,
        problems: Option<Vec<String>>,
    ) -> anyhow::Result<()> {
        let error_detail = problems.map(|problems| Status {
            code: Code::InvalidArgument as i32,
            message: joined(&problems),
            details: Vec::new(),
        });
        // of another type nothing is in force
        let ours = response.type_url == TYPE_URL;
        self.send(DiscoveryRequest {
            version_info: if ours { version.to_owned() } else { String::new() },
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..DiscoveryRequest::default()
        })
    }

    fn send(&self, request: DiscoveryRequest) -> anyhow::Result<()> {
        self.say.send(request).ok().context("the stream has ended")
    }
}

/// The headers of each call.
pub(super) fn headers(pairs: &[(String, String)]) -> anyhow::Result<MetadataMap> {
    let mut headers = MetadataMap::new();
    for (name, value) in pairs {
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes());
        let key = key.with_context(|| format!("xds.headers: {name:?} is no name"))?;
        let value = MetadataValue::try_from(value.as_str());
        headers.append(key, value.with_context(|| format!("xds.headers: {name} has a bad value"))?);
    }
    Ok(headers)
}

fn node(node: &XdsNode) -> Node {
    let text = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = node.metadata.iter().map(|(name, value)| (name.clone(), text(value)));
    let metadata = prost_types::Struct { fields: fields.collect() };
    Node {
        id: node.id.clone(),
        metadata: (!node.metadata.is_empty()).then_some(metadata),
        user_agent_name: "tollgate".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(VERSION.to_owned())),
        ..Node::default()
    }
}

fn described(status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}

/// All problems, one a line; those that do not fit are counted.
fn joined(problems: &[String]) -> String {
    let mut text = String::new();
    for (place, problem) in problems.iter().enumerate() {
        if text.len() + problem.len() > MAX_DETAIL {
            let _always_fits = write!(text, "\n{} more errors are left out", problems.len() - place);
            break;
        }
        if place > 0 {
            text.push('\n');
        }
        text.push_str(problem);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_as_long_as_there_is_room() {
        assert_eq!(joined(&["one".to_owned(), "two".to_owned()]), "one\ntwo");
        let many = vec!["x".repeat(1 << 19); 4];
        let text = joined(&many);
        assert!(text.len() < MAX_DETAIL + 100 && text.ends_with("\n2 more errors are left out"));
    }
}
