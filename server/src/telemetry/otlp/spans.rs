//! Traces as messages.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};

use super::resource::{said, scope as instrumentation};
use crate::telemetry::trace::{Finished, Outcome, Part};

/// Flags of a span: sampled.
const SAMPLED: u32 = 1;
/// Flags of a span whose parent is known to be in another process: known, and remote.
const REMOTE: u32 = 0x300;
/// Known, and not remote.
const OWN: u32 = 0x100;

pub(super) fn scope(traces: &[Finished]) -> ScopeSpans {
    ScopeSpans {
        scope: Some(instrumentation()),
        spans: traces.iter().flat_map(spans).collect(),
        schema_url: String::new(),
    }
}

fn spans(trace: &Finished) -> impl Iterator<Item = Span> {
    let origin = if trace.server.parent.is_some() { REMOTE } else { OWN };
    let server = span(trace, &trace.server, (SpanKind::Server, origin));
    let steps = trace.steps.iter().map(|part| span(trace, part, (SpanKind::Internal, OWN)));
    [server].into_iter().chain(steps)
}

fn span(trace: &Finished, part: &Part, (kind, origin): (SpanKind, u32)) -> Span {
    let status = match part.outcome {
        Outcome::Unset => None,
        Outcome::Failed => Some(Status { code: StatusCode::Error.into(), ..Status::default() }),
    };
    Span {
        trace_id: trace.trace.to_vec(),
        span_id: part.id.to_vec(),
        trace_state: trace.state.clone(),
        parent_span_id: part.parent.map(|id| id.to_vec()).unwrap_or_default(),
        flags: SAMPLED | origin,
        name: part.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: part.began,
        end_time_unix_nano: part.ended,
        attributes: part.attributes.iter().map(|attribute| said(attribute.key, &attribute.value)).collect(),
        status,
        ..Span::default()
    }
}
