//! The contract's list of samples.

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    response::Response,
};
use utxoiq_store::{
    metrics::read::page::{MAX_SAMPLES_PAGE, SampleCursor, SamplesPage, SamplesStart},
    token::Scope,
};

use super::{
    super::wire_read::{SamplesPageQuery, SamplesQuery, StoredMetric, render},
    cursor, link, samples,
};
use crate::{
    AppState,
    api::ready_json,
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
            .with_header("Link", "`<…>; rel=\"next\"` where more samples remain.")
            .refuses(503, "cold_store_unavailable", "samples of the range are in cold storage, which does not answer"),
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
    let mut response = ready_json(array(&found.parts).into());
    if let Some(next) = next {
        response.headers_mut().extend([link::header(&next)?]);
    }
    Ok(response)
}

/// An array of items that are there already, in parts, each item followed by a comma. Copied together: sending two dozen
/// parts one by one was measured at 0.7 of this.
fn array(parts: &[Bytes]) -> Vec<u8> {
    let length: usize = parts.iter().map(Bytes::len).sum();
    let mut array = Vec::with_capacity(length + 2);
    array.push(b'[');
    for part in parts {
        array.extend_from_slice(part);
    }
    if array.len() > 1 {
        array.pop();
    }
    array.push(b']');
    array
}
