//! Files of samples: a line is a sample, and those that are right are stored.
//!
//! NDJSON has one sample of the contract a line, CSV (RFC 4180) one a row under a header of the same names. Names may be as
//! long as the store takes them. A sample needs a time: without one, sending a file again would double it.

pub(super) mod csv;

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::header,
    response::{IntoResponse as _, Response},
};
use utxoiq_store::metrics::NewSample;

use super::{
    body::{essence, read, unsupported},
    gather::{Gathered, Written},
    records,
    wire::{LinesRejected, MetricsImported},
    write::{
        Lengths, fast_line,
        general::{self, Read},
    },
};
use crate::{
    AppState,
    error::{ApiError, ApiResult},
    input::{self, Input},
    routes::Routes,
    version::versioned,
};

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";

/// Reasons that only imports know.
const UNREADABLE: &str = "unreadable";
const NO_TIMESTAMP: &str = "no_timestamp";

/// Adds the call.
pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        records("/api/v1/monitoring/metrics/import", "Import samples from a file")
            .describe(
                "NDJSON with a sample a line, or CSV with the header `service_name,metric_type,metric_value,unit,timestamp` and, \
                 where wanted, `labels` and `metadata` as JSON objects; plain or with `Content-Encoding: gzip`. What is right is \
                 stored, the rest is told by reason, with the number of the first such line. A sample needs its time, so that a \
                 file may be sent again. A larger file is sent in parts.",
            )
            .body_document(&[NDJSON, CSV])
            .answers::<MetricsImported>("what became of the samples")
            .tells_version()
            .refuses(400, "malformed_gzip", "the body is not gzip")
            .refuses(413, "too_many_samples", "more than 100,000 samples, or names too long")
            .refuses(422, "invalid_input", "the body is empty, or the header of a CSV lacks a column"),
        import,
    )
}

async fn import(State(state): State<AppState>, request: Request) -> ApiResult<Response> {
    let (content_type, _) = essence(request.headers(), &header::CONTENT_TYPE);
    let read_lines = match content_type.as_str() {
        NDJSON | "application/ndjson" | "application/jsonl" => ndjson,
        CSV => csv::rows,
        _ => {
            return Err(unsupported(
                "send NDJSON with Content-Type: application/x-ndjson, or CSV with Content-Type: text/csv",
            ));
        }
    };
    let body = read(request, &state).await?;
    let read = move |body: &Bytes| {
        if body.iter().all(u8::is_ascii_whitespace) {
            let message = "the body is empty: send a file of samples";
            return Err(utxoiq_store::Error::field("", message).into());
        }
        read_lines(body)
    };
    let lines = body.work(read).await?;
    let count = lines.count;
    let written = lines.gathered.record(&state).await?;
    let transaction = written.transaction;
    let answer = Json(imported(count, written)).into_response();
    Ok(versioned(answer, transaction))
}

/// The samples of a file; each line is a place.
#[derive(Default)]
pub(super) struct Lines {
    gathered: Gathered,
    count: u64,
}

impl Lines {
    /// Adds what was read of a line, or says what is wrong with it.
    fn add(&mut self, line: usize, read: Result<Read, String>) -> ApiResult<()> {
        self.count += 1;
        match read {
            Err(message) => self.gathered.refuse(UNREADABLE, line, || message.clone()),
            Ok((_, NewSample { at: None, .. })) => {
                let told = || "timestamp: is required, so that a file can be sent again".to_owned();
                self.gathered.refuse(NO_TIMESTAMP, line, told);
            }
            Ok((name, sample)) => {
                if let Some(series) = self.gathered.series(line, name)? {
                    self.gathered.push(line, NewSample { series, ..sample })?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn ndjson(body: &Bytes) -> ApiResult<Lines> {
    let mut lines = Lines::default();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if !line.iter().all(u8::is_ascii_whitespace) {
            let read = fast_line(line, Lengths::STORE);
            let read = read.map_or_else(|| general_line(line), Ok);
            lines.add(index + 1, read)?;
        }
    }
    Ok(lines)
}

pub(super) fn general_line(line: &[u8]) -> Result<Read, String> {
    let object = input::document(line).and_then(Input::body);
    checked(object.map_err(|error| error.detail().to_owned())?)
}

/// Reads a sample's fields, or says which are wrong.
fn checked(mut fields: Input) -> Result<Read, String> {
    let read = general::sample(&mut fields, Lengths::STORE);
    match fields.finish() {
        Ok(()) => Ok(read),
        Err(error) => Err(wrong_fields(&error)),
    }
}

fn wrong_fields(error: &ApiError) -> String {
    let errors = error.errors().iter();
    let all: Vec<_> = errors
        .map(|error| format!("{}: {}", error.field, error.message))
        .collect();
    all.join("; ")
}

fn imported(lines: u64, written: Written) -> MetricsImported {
    let number = |place: usize| u64::try_from(place).unwrap_or(u64::MAX);
    let rejected: Vec<_> = written
        .refusals
        .iter()
        .map(|(reason, refusal)| LinesRejected {
            reason: reason.to_owned(),
            count: refusal.count,
            first_line: number(refusal.place),
            message: refusal.first.clone(),
        })
        .collect();
    MetricsImported {
        lines,
        stored: written.stored,
        duplicates: written.duplicates,
        conflicts: written.conflicts,
        first_conflict: written.conflict.map(|conflict| number(conflict.place)),
        rejected_lines: rejected.iter().map(|rejected| rejected.count).sum(),
        rejected,
    }
}

#[cfg(test)]
mod tests;
