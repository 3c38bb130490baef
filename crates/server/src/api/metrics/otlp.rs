//! OpenTelemetry's metrics over HTTP (OTLP 1.x), in protocol buffers and in JSON.
//!
//! * What is right is stored, and `partial_success` tells how many data points were not, and why.
//! * A request that cannot be read gets 400, which clients do not send again; 429 and 503 have `Retry-After`, and they do.
//! * Every error is `application/problem+json`, as everywhere here, and not a `google.rpc.Status` in the request's encoding:
//!   clients decide by the status alone and log the body as it is, which this way can be read.

mod json;
mod map;
mod proto;

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use prost::Message as _;
use serde_json::json;

use super::{
    body::{essence, read, undecodable, unsupported},
    gather::{Gathered, Written},
    protobuf, records,
};
use crate::{AppState, error::ApiResult, routes::Routes, version::versioned};
use proto::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The most messages that are decoded: each becomes a structure many times its size on the wire.
const MAX_MESSAGES: usize = 500_000;

/// How a request is encoded, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// Adds the call.
pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        records("/v1/metrics", "Record OpenTelemetry's metrics")
            .describe(
                "OTLP/HTTP: an `ExportMetricsServiceRequest` in protocol buffers or JSON, plain or with `Content-Encoding: \
                 gzip`. The answer is an `ExportMetricsServiceResponse` in the same encoding; its `partial_success` tells how \
                 many data points were not stored, and why. How data points become samples is in docs/api.md.",
            )
            .body_document(&[PROTOBUF, JSON])
            .answers_document(PROTOBUF, "what was stored, and what was not")
            .or_document(JSON)
            .tells_version()
            .refuses(400, "malformed_protobuf", "the body is no such message")
            .refuses(400, "malformed_json", "the body is no such message in JSON")
            .refuses(400, "malformed_gzip", "the body is not gzip")
            .refuses(413, "too_many_samples", "more than 100,000 samples, or too much else"),
        export,
    )
}

async fn export(State(state): State<AppState>, request: Request) -> ApiResult<Response> {
    let (content_type, _) = essence(request.headers(), &header::CONTENT_TYPE);
    let encoding = match content_type.as_str() {
        PROTOBUF | "application/protobuf" => Encoding::Protobuf,
        JSON => Encoding::Json,
        _ => {
            return Err(unsupported(
                "send OTLP with Content-Type: application/x-protobuf or application/json",
            ));
        }
    };
    let body = read(request, &state).await?;
    let gathered = body.work(move |body| gather(body, encoding)).await?;
    let written = gathered.record(&state).await?;
    Ok(answer(&written, encoding))
}

pub(super) fn gather(body: &Bytes, encoding: Encoding) -> ApiResult<Gathered> {
    let request = decode(body, encoding)?;
    map::gather(&request)
}

fn decode(body: &[u8], encoding: Encoding) -> ApiResult<ExportMetricsServiceRequest> {
    let torn = |why: &str| {
        let detail = format!("the body is no ExportMetricsServiceRequest that can be read: {why}");
        undecodable("malformed_protobuf", detail)
    };
    let messages = match encoding {
        Encoding::Protobuf => protobuf::count(&proto::REQUEST, body, MAX_MESSAGES)
            .map_err(|protobuf::Torn| torn("it is cut off or no protocol buffer"))?,
        Encoding::Json => body
            .iter()
            .fold(0, |braces, byte| braces + usize::from(*byte == b'{')),
    };
    if messages > MAX_MESSAGES {
        return Err(map::too_many());
    }
    match encoding {
        Encoding::Protobuf => {
            ExportMetricsServiceRequest::decode(body).map_err(|error| torn(&error.to_string()))
        }
        Encoding::Json => serde_json::from_slice(body).map_err(|error| {
            let detail = format!("the body is no ExportMetricsServiceRequest in JSON: {error}");
            undecodable("malformed_json", detail)
        }),
    }
}

fn answer(written: &Written, encoding: Encoding) -> Response {
    let rejected = i64::try_from(written.refused.len()).unwrap_or(i64::MAX);
    let message = written.summary();
    let partial = rejected > 0 || !message.is_empty();
    let (content_type, body) = match encoding {
        Encoding::Protobuf => {
            let partial_success = partial.then_some(ExportMetricsPartialSuccess {
                rejected_data_points: rejected,
                error_message: message,
            });
            let response = ExportMetricsServiceResponse { partial_success };
            (PROTOBUF, response.encode_to_vec())
        }
        Encoding::Json if partial => {
            let partial_success = json!({
                "rejectedDataPoints": rejected.to_string(),
                "errorMessage": message,
            });
            let response = json!({"partialSuccess": partial_success});
            (JSON, response.to_string().into_bytes())
        }
        Encoding::Json => (JSON, b"{}".to_vec()),
    };
    let content_type = HeaderValue::from_static(content_type);
    let response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    versioned(response, written.transaction)
}
