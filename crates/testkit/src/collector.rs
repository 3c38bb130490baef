//! A collector of traces: a [`Receiver`](crate::Receiver) that reads what exporters send it.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use crate::{Received, Receiver};

/// A span as the collector has got it.
#[derive(Debug, Clone)]
pub struct CollectedSpan {
    /// Its name.
    pub name: String,
    /// Whether it is `SpanKind server`.
    pub is_server: bool,
    /// Whether it is marked as failed.
    pub is_error: bool,
    /// Its trace, in hexadecimal.
    pub trace_id: String,
    /// Itself, in hexadecimal.
    pub span_id: String,
    /// What it is a part of; empty at the beginning of a trace.
    pub parent_id: String,
    /// Its attributes as text, in order.
    pub attributes: Vec<(String, String)>,
    /// The spans that it is linked with.
    pub links: Vec<String>,
    /// The attributes of whose it is.
    pub resource: Vec<(String, String)>,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
}

impl CollectedSpan {
    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        value_of(&self.attributes, name)
    }

    /// An attribute of whose it is.
    pub fn resource(&self, name: &str) -> Option<&str> {
        value_of(&self.resource, name)
    }
}

fn value_of<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// All spans that a receiver was sent and took, in order of arrival.
pub fn spans(receiver: &Receiver) -> Vec<CollectedSpan> {
    receiver.taken().iter().flat_map(spans_of).collect()
}

fn spans_of(received: &Received) -> Vec<CollectedSpan> {
    let request = ExportTraceServiceRequest::decode(received.body.clone())
        .expect("what was sent is OTLP in protobuf");
    let mut all = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let resource = pairs(&resource.attributes);
        let spans = of_resource.scope_spans.into_iter().flat_map(|of| of.spans);
        all.extend(spans.map(|span| collected(&span, &resource)));
    }
    all
}

fn collected(span: &Span, resource: &[(String, String)]) -> CollectedSpan {
    let status = span.status.as_ref().map(|status| status.code);
    CollectedSpan {
        name: span.name.clone(),
        is_server: span.kind == SpanKind::Server as i32,
        is_error: status == Some(StatusCode::Error as i32),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        attributes: pairs(&span.attributes),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        resource: resource.to_vec(),
        nanos: span
            .end_time_unix_nano
            .saturating_sub(span.start_time_unix_nano),
    }
}

fn pairs(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.clone());
        let value = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(is)) => is.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), value)
    };
    attributes.iter().map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}
