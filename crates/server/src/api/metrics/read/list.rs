//! The contract's list of samples.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{RawQuery, State},
    http::{HeaderValue, header},
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use utxoiq_store::{
    metrics::read::{
        RenderedPage,
        page::{MAX_SAMPLES_PAGE, SampleCursor, SamplesPage, SamplesStart},
    },
    token::Scope,
};

use super::{
    super::wire_read::{SamplesPageQuery, SamplesQuery, StoredMetric, render},
    cursor, link, samples,
};
use crate::{
    AppState,
    error::ApiResult,
    input::{Input, Query},
    routes::{Call, Routes},
    version::Seen,
};

const PATH: &str = "/api/v1/monitoring/metrics";

/// How long a page is unless said, as the contract has it.
const LIMIT: i64 = 1_000;

/// Adds the call.
pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        Call::get(PATH, Scope::MetricsRead, "Samples, the newest first")
            .describe(
                "From `start_time` on and before `end_time`; a range that ends before it begins is empty. Where more remain, \
                 the header `Link` has the address of the next page: pages by its cursor give each sample once, whatever is \
                 written meanwhile. May come from a cache and is never more than a second old; with the `Store-Version` of a \
                 write it shows that write.",
            )
            .query::<SamplesQuery>()
            .query::<SamplesPageQuery>()
            .after_version()
            .answers_list::<StoredMetric>("the samples")
            .with_header("Link", "`<…>; rel=\"next\"` where more samples remain."),
        list,
    )
}

/// Reads `limit`, and `offset` or `cursor`.
fn page(query: &mut Input) -> SamplesPage {
    let limit = query.int_or("limit", 1..=MAX_SAMPLES_PAGE, LIMIT);
    // How far it may go is said where it is used, with what to do instead.
    let offset = query.optional_int("offset", 0..=i64::MAX);
    let start = match (cursor::<SampleCursor>(query), offset) {
        (Some(_), Some(_)) => {
            query.refuse(
                "cursor",
                "says where the page begins, and so does offset: leave one of them out",
            );
            SamplesStart::Offset(0)
        }
        (Some(cursor), None) => SamplesStart::After(cursor),
        (None, offset) => SamplesStart::Offset(offset.unwrap_or_default()),
    };
    SamplesPage { limit, start }
}

async fn list(
    State(state): State<AppState>,
    Seen(seen): Seen,
    RawQuery(written): RawQuery,
    Query(mut query): Query,
) -> ApiResult<Response> {
    let selector = samples(&mut query);
    let page = page(&mut query);
    query.finish()?;
    let metrics = state.store.metrics();
    let found = metrics.newest(&selector, page, seen, &render).await?;
    let next = found
        .next
        .map(|cursor| link::next(PATH, &written.unwrap_or_default(), &cursor.to_string()));
    let mut response = Response::new(Body::new(Array::of(found)));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    if let Some(next) = next {
        headers.extend([link::header(&next)?]);
    }
    Ok(response)
}

/// An array whose items are there already, in parts, each item followed by a comma. Nothing is copied together.
struct Array {
    parts: VecDeque<Bytes>,
    length: u64,
}

impl Array {
    fn of(page: RenderedPage) -> Self {
        let mut parts: VecDeque<Bytes> = page.parts.into();
        parts.retain(|part| !part.is_empty());
        if let Some(last) = parts.back_mut() {
            last.truncate(last.len() - 1);
        }
        parts.push_front(Bytes::from_static(b"["));
        parts.push_back(Bytes::from_static(b"]"));
        let length = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts, length }
    }
}

impl HttpBody for Array {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front();
        self.length -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
