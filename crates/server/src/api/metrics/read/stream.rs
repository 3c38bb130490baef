//! Whole series as a document that streams.
//!
//! It streams as [`crate::pieces`] says, and
//!
//! * **what remains is said at the end**, in the document: it is known only then, and to count the samples before they are
//!   sent would read them twice;
//! * what fails before the first samples is answered with its own status.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use utxoiq_store::{
    error::{Error, Result},
    metrics::{
        Sample, Series,
        read::{
            page::StreamCursor,
            points::{POINTS, PointsRead},
            stream::SampleRead,
        },
    },
    token::Scope,
};

use super::{
    super::wire_read::{MetricSamples, SamplesQuery, StreamQuery, Writer},
    cursor, link, samples,
};
use crate::{
    AppState,
    error::ApiResult,
    input::Query,
    pieces::{self, Pieces},
    routes::{Call, Routes},
};

const PATH: &str = "/api/v1/monitoring/metrics/samples";

const FORMATS: &[(&str, bool); 2] = &[("json", false), ("ndjson", true)];

const NDJSON: &str = "application/x-ndjson";

/// Adds the call.
pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        Call::get(PATH, Scope::MetricsRead, "All samples of some series, or a chart of each")
            .describe(
                "Series after series, each one's samples in the order of their times. It streams; a connection that ends \
                 before the last chunk means that samples are missing. Where more remain than one read gives \
                 (`metrics.max_samples_per_read`), the document ends with their address in `next`; as lines, the last line is \
                 `{\"next\": …}` then.",
            )
            .query::<SamplesQuery>()
            .query::<StreamQuery>()
            .answers::<MetricSamples>("the samples")
            .or_document(NDJSON)
            .refuses(400, "too_many_series_matched", "more series match than `metrics.max_series_per_read`")
            .refuses(400, "too_many_samples", "a series has more samples than a chart may look at")
            .refuses(503, "reads_busy", "as many long reads as may run at once are running")
            .refuses(503, "cold_store_unavailable", "samples of the range are in cold storage, which does not answer"),
        stream,
    )
}

/// What is read: samples, or points of charts.
enum Source {
    Samples(Box<SampleRead>),
    Points(PointsRead),
}

impl Source {
    async fn next(&mut self) -> Result<Option<(Arc<Series>, Vec<Sample>)>> {
        Ok(match self {
            Self::Samples(read) => read.next().await?.map(|part| (part.series, part.samples)),
            Self::Points(read) => read.next().await?.map(|series| {
                let points = series.points.into_iter();
                let samples = points.map(|(at, value)| Sample(at, value, None));
                (series.series, samples.collect())
            }),
        })
    }

    fn rest(&self) -> Option<StreamCursor> {
        match self {
            Self::Samples(read) => read.rest(),
            Self::Points(read) => read.rest(),
        }
    }
}

async fn stream(
    State(state): State<AppState>,
    headers: HeaderMap,
    RawQuery(written): RawQuery,
    Query(mut query): Query,
) -> ApiResult<Response> {
    let selector = samples(&mut query);
    let format = query.optional_one_of("format", FORMATS);
    let points = query.optional_int("points", POINTS);
    let after = cursor(&mut query);
    query.finish()?;
    let is_lines = format.unwrap_or_else(|| wants_lines(&headers));
    let metrics = state.store.metrics();
    let mut source = match points {
        None => Source::Samples(Box::new(metrics.samples(&selector, after).await?)),
        Some(points) => Source::Points(metrics.points(&selector, points, after).await?),
    };
    let first = source.next().await?;
    let document = Document {
        source,
        writer: Writer::new(is_lines),
        query: written.unwrap_or_default(),
    };
    let body = pieces::body(&state, |pieces| give(document, first, pieces));
    let mut response = Response::new(body);
    let content_type = if is_lines { NDJSON } else { "application/json" };
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("ndjson"))
}

/// A document on its way.
struct Document {
    source: Source,
    writer: Writer,
    query: String,
}

/// Gives all samples, and at the end what remains.
async fn give(
    mut document: Document,
    first: Option<(Arc<Series>, Vec<Sample>)>,
    pieces: Pieces,
) -> Result<()> {
    let unwritten = |error| Error::internal("a sample could not be written").with_source(error);
    let mut part = first;
    while let Some((series, samples)) = part {
        let mut bytes = Vec::new();
        document
            .writer
            .samples(&mut bytes, &series, &samples)
            .map_err(unwritten)?;
        if !pieces.give(bytes).await? {
            return Ok(());
        }
        part = document.source.next().await?;
    }
    let rest = document.source.rest();
    let next = rest.map(|cursor| link::next(PATH, &document.query, &cursor.to_string()));
    let mut bytes = Vec::new();
    document
        .writer
        .end(&mut bytes, next.as_deref())
        .map_err(unwritten)?;
    pieces.give(bytes).await.map(|_| ())
}
