//! Prometheus remote write 1.0: a block of snappy with a `WriteRequest` in protocol buffers.
//!
//! Prometheus sends a request again after 5xx and 429 only, and logs the body of any other refusal. So what is right is
//! always stored, and 400 says what was not. What Prometheus has as a matter of course makes no refusal: stale markers say
//! that a series ended, and are no samples; a NaN or an infinity, such as the quantile of a summary without observations, and
//! exemplars are left out, and counted in the header `Samples-Left-Out`.

use std::collections::BTreeMap;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use utxoiq_store::metrics::{NewSample, Reason, SeriesName};

use super::{
    body::{essence, snapped_length, undecodable, unsnap, unsupported},
    gather::{Gathered, Written},
    protobuf::{Fields, Torn, Value},
    records,
};
use crate::{
    AppState, body,
    error::{ApiError, ApiResult},
    routes::Routes,
    version::versioned,
};

const PROTOBUF: &str = "application/x-protobuf";

/// The service of a series without the label `job`.
const NO_JOB: &str = "prometheus";

/// The NaN by which Prometheus says that a series has ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// The number of samples that are no numbers, and of exemplars, where there are any.
static LEFT_OUT: HeaderName = HeaderName::from_static("samples-left-out");

/// The version of the protocol that a sender speaks.
const VERSION: &str = "x-prometheus-remote-write-version";

/// Adds the call.
pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        records("/api/v1/write", "Record what Prometheus sends")
            .describe(
                "Prometheus remote write 1.0: `Content-Encoding: snappy`, `Content-Type: application/x-protobuf`. Of a request \
                 with samples that are not accepted the others are stored, and 400 `partly_refused` names reasons, counts and \
                 the first of each. How series are named is in docs/api.md.",
            )
            .body_document(&[PROTOBUF])
            .answers_nothing("all samples are stored, or were before")
            .tells_version()
            .with_header(
                "Samples-Left-Out",
                "How many samples were no numbers and how many exemplars came with them, where there were any.",
            )
            .refuses(400, "malformed_snappy", "the body is no block of snappy")
            .refuses(400, "malformed_protobuf", "the body is no `WriteRequest`")
            .refuses(400, "partly_refused", "some samples were not accepted, all others are stored; `rejected` has the reasons")
            .refuses(413, "too_many_samples", "more than 100,000 samples, or names too long"),
        write,
    )
}

/// What a request brings.
#[derive(Default)]
pub(super) struct Brought {
    gathered: Gathered,
    /// Samples that are no numbers.
    not_numbers: u64,
    exemplars: u64,
}

async fn write(State(state): State<AppState>, request: Request) -> ApiResult<Response> {
    check_form(request.headers())?;
    let limit = state.store.config().server.max_body_bytes;
    let body = body::read(request, &state).await?;
    let Brought {
        gathered,
        not_numbers,
        exemplars,
    } = crate::body::aside(snapped_length(&body), move || {
        let message = unsnap(&body, limit)?;
        gather(&message)
    })
    .await?;
    let intake = state.store.metrics_intake();
    intake.count_rejected(Reason::NotANumber, not_numbers);
    let written = gathered.record(&state).await?;
    if !written.refused.is_empty() || written.conflict.is_some() {
        return Err(partly_refused(&written));
    }
    let mut response = versioned(StatusCode::NO_CONTENT.into_response(), written.transaction);
    let left_out = format!("not_a_number={not_numbers}, exemplars={exemplars}");
    if not_numbers + exemplars > 0
        && let Ok(left_out) = HeaderValue::try_from(left_out)
    {
        response.headers_mut().insert(&LEFT_OUT, left_out);
    }
    Ok(response)
}

/// Whether the request says that it is what is read here.
fn check_form(headers: &HeaderMap) -> ApiResult<()> {
    let (content_type, parameters) = essence(headers, &header::CONTENT_TYPE);
    let (encoding, _) = essence(headers, &header::CONTENT_ENCODING);
    let version = headers.get(VERSION).map(HeaderValue::as_bytes);
    if parameters.contains("io.prometheus.write.v2") || version.is_some_and(|v| v.starts_with(b"2"))
    {
        return Err(unsupported(
            "remote write 2.0 is not spoken here; send protobuf_message: prometheus.WriteRequest (1.0)",
        ));
    }
    if content_type != PROTOBUF {
        return Err(unsupported(
            "send a WriteRequest with Content-Type: application/x-protobuf",
        ));
    }
    // The protocol knows no other encoding: one that does not name it means it.
    if !matches!(encoding.as_str(), "" | "snappy") {
        return Err(unsupported(
            "send a block of snappy with Content-Encoding: snappy",
        ));
    }
    Ok(())
}

fn partly_refused(written: &Written) -> ApiError {
    let mut rejected: Vec<_> = written
        .refusals
        .iter()
        .map(|(reason, refusal)| {
            json!({"reason": reason, "count": refusal.count, "first": refusal.first})
        })
        .collect();
    if let Some(conflict) = &written.conflict {
        rejected.push(json!({
            "reason": "conflict", "count": conflict.count, "first": conflict.first,
        }));
    }
    let detail = format!(
        "some samples were not accepted, all others are stored: {}",
        written.summary()
    );
    ApiError::new(StatusCode::BAD_REQUEST, "partly_refused", detail)
        .with_member("stored", written.stored)
        .with_member("duplicates", written.duplicates)
        .with_member("rejected", rejected)
}

pub(super) fn gather(message: &[u8]) -> ApiResult<Brought> {
    let mut brought = Brought::default();
    let mut place = 0;
    for field in Fields(message) {
        if let (1, Value::Bytes(series)) = field.map_err(|Torn| torn())? {
            brought.series(series, &mut place)?;
        }
    }
    Ok(brought)
}

fn torn() -> ApiError {
    undecodable(
        "malformed_protobuf",
        "the body is no WriteRequest that can be read: it is cut off or no protocol buffer",
    )
}

impl Brought {
    /// Reads one `TimeSeries`; each sample of it is a place.
    fn series(&mut self, series: &[u8], place: &mut usize) -> ApiResult<()> {
        let mut labels = BTreeMap::new();
        let mut is_text = true;
        let mut has_samples = false;
        for field in Fields(series) {
            match field.map_err(|Torn| torn())? {
                (1, Value::Bytes(label)) => match label_of(label).map_err(|Torn| torn())? {
                    // An empty value is the same as none.
                    Some((_, "")) => {}
                    Some((key, value)) => {
                        labels.insert(key.to_owned(), value.to_owned());
                    }
                    None => is_text = false,
                },
                (2, Value::Bytes(_)) => has_samples = true,
                (3, Value::Bytes(_)) => self.exemplars += 1,
                (4, Value::Bytes(_)) => {
                    let told = || "native histograms are not supported".to_owned();
                    self.gathered
                        .refuse(Reason::Unsupported.as_str(), *place, told);
                    *place += 1;
                }
                _ => {}
            }
        }
        if !has_samples {
            return Ok(());
        }
        let number = if is_text {
            self.gathered.series(*place, name_of(labels))?
        } else {
            None
        };
        for field in Fields(series) {
            if let (2, Value::Bytes(sample)) = field.map_err(|Torn| torn())? {
                self.sample(sample, number, is_text, *place)?;
                *place += 1;
            }
        }
        Ok(())
    }

    fn sample(
        &mut self,
        sample: &[u8],
        series: Option<usize>,
        is_text: bool,
        place: usize,
    ) -> ApiResult<()> {
        let (value, millis) = sample_of(sample).map_err(|Torn| torn())?;
        if value.to_bits() == STALE {
            return Ok(());
        }
        if !value.is_finite() {
            self.not_numbers += 1;
            return Ok(());
        }
        let Some(series) = series else {
            let what = if is_text { "too long" } else { "no UTF-8" };
            let told = || format!("a series' names and labels are {what}");
            self.gathered
                .refuse(Reason::BadLabels.as_str(), place, told);
            return Ok(());
        };
        let sample = NewSample {
            series,
            at: Some(millis.saturating_mul(1_000)),
            value,
            metadata: None,
        };
        self.gathered.push(place, sample)
    }
}

/// A label's name and value; `None` where they are no text.
fn label_of(label: &[u8]) -> Result<Option<(&str, &str)>, Torn> {
    let (mut name, mut value) = (&b""[..], &b""[..]);
    for field in Fields(label) {
        match field? {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    let texts = (std::str::from_utf8(name), std::str::from_utf8(value));
    Ok(match texts {
        (Ok(name), Ok(value)) => Some((name, value)),
        _ => None,
    })
}

/// A sample's value and its time in milliseconds.
fn sample_of(sample: &[u8]) -> Result<(f64, i64), Torn> {
    let (mut value, mut millis) = (0.0, 0);
    for field in Fields(sample) {
        match field? {
            (1, Value::Fixed64(bits)) => value = f64::from_bits(bits),
            (2, Value::Varint(number)) => millis = number.cast_signed(),
            _ => {}
        }
    }
    Ok((value, millis))
}

/// What a series is called here.
fn name_of(mut labels: BTreeMap<String, String>) -> SeriesName {
    let metric_type = labels.remove("__name__").unwrap_or_default();
    let job = labels.remove("job");
    SeriesName {
        service_name: job.unwrap_or_else(|| NO_JOB.to_owned()),
        unit: unit_of(&metric_type).to_owned(),
        metric_type,
        labels,
    }
}

/// The units that Prometheus's names end in.
const UNITS: [&str; 14] = [
    "seconds",
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "bytes",
    "bits",
    "ratio",
    "percent",
    "celsius",
    "meters",
    "volts",
    "amperes",
    "joules",
    "hertz",
];

/// The unit that a metric's name ends in; a histogram's counts have none.
fn unit_of(name: &str) -> &'static str {
    if name.ends_with("_count") || name.ends_with("_bucket") {
        return "";
    }
    let stem = name
        .strip_suffix("_total")
        .or_else(|| name.strip_suffix("_sum"))
        .unwrap_or(name);
    let last = stem.rsplit_once('_').map_or("", |(_, last)| last);
    UNITS
        .into_iter()
        .find(|unit| *unit == last)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
