//! What series amount to by hour, day or week, and whether that is so.

use axum::{Json, extract::State};
use utxoiq_store::{
    Error,
    metrics::{Interval, MAX_METRIC_TYPE, MAX_SERVICE_NAME, micros, read::Selector},
    token::Scope,
};

use super::{
    super::wire_figures::{AggregateParams, DayVerified, MetricAggregate, VerifyRequest},
    series,
};
use crate::{
    AppState,
    error::ApiResult,
    input::{Body, Query},
    routes::{Call, Routes},
    version::Seen,
};

const INTERVALS: &[(&str, Interval); 3] = &[
    ("hour", Interval::Hour),
    ("day", Interval::Day),
    ("week", Interval::Week),
];

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Call::get(
                "/api/v1/monitoring/metrics/aggregate",
                Scope::MetricsRead,
                "Metrics by hour, day or week",
            )
            .describe(
                "From rollups, which equal their samples also after late ones; what is not rolled up yet is computed from \
                 samples, so that everything acknowledged is in it. Buckets without samples are left out; a bucket that is cut by \
                 the range has the samples of its part. Percentiles are within 1 % of a sample of that rank.",
            )
            .query::<AggregateParams>()
            .after_version()
            .answers::<MetricAggregate>("the buckets that have samples, in order")
            .refuses(400, "too_many_series_matched", "more series match than one read may be about")
            .refuses(400, "too_many_buckets", "the range has more than 20,000 buckets")
            .refuses(503, "cold_store_unavailable", "samples of the range are in cold storage, which does not answer"),
            aggregate,
        )
        .add(
            Call::post("/api/v1/monitoring/metrics/verify", Scope::Admin, "Verify the rollups of a day")
                .describe(
                    "Computes every rollup of the day from its samples, and that of the week on a Sunday, and compares to the last \
                     bit. A day stays verified until something is written into it. Where that takes longer than a request may, it \
                     goes on without an answer.",
                )
                .body::<VerifyRequest>()
                .answers::<DayVerified>("what was compared, and what differs")
                .refuses(404, "no_such_day", "there are no samples of the day here")
                .refuses(409, "not_rolled_up", "the day is not rolled up yet"),
            verify,
        )
}

async fn aggregate(
    State(state): State<AppState>,
    Seen(seen): Seen,
    Query(mut query): Query,
) -> ApiResult<Json<MetricAggregate>> {
    // Both are required here; elsewhere they only narrow down.
    let service_name = query.name("service_name", 1..=MAX_SERVICE_NAME);
    let metric_type = query.name("metric_type", 1..=MAX_METRIC_TYPE);
    let (start_time, end_time) = (query.time("start_time"), query.time("end_time"));
    let interval = query
        .optional_one_of("interval", INTERVALS)
        .unwrap_or(Interval::Hour);
    let selector = Selector {
        from: micros(start_time),
        to: micros(end_time),
        ..series(&mut query)
    };
    query.finish()?;
    let store = &state.store;
    let aggregated = store
        .metrics()
        .aggregate(&selector, interval, seen, store.now())
        .await?;
    Ok(Json(MetricAggregate {
        service_name,
        metric_type,
        interval: interval.as_str().to_owned(),
        start_time,
        end_time,
        complete: aggregated.is_complete,
        as_of: aggregated.as_of,
        series: aggregated.series,
        data: aggregated.buckets.into_iter().map(Into::into).collect(),
    }))
}

async fn verify(
    State(state): State<AppState>,
    Body(mut body): Body,
) -> ApiResult<Json<DayVerified>> {
    let day = body.day("day");
    let repair = body.bool_or("repair", false);
    body.finish()?;
    let store = state.store.clone();
    // A task of its own: a day of many samples takes longer than a request may, and is worth finishing.
    let verifying = tokio::spawn(async move {
        let now = store.now();
        store.metrics().verify(day, repair, now).await
    });
    let verified = verifying
        .await
        .map_err(|error| Error::internal("a verification ended early").with_source(error))??;
    Ok(Json(verified.into()))
}
