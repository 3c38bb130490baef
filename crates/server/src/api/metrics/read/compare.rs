//! The greatest series, and those that got worse.

use axum::{Json, extract::State};
use chrono::TimeDelta;
use utxoiq_store::{
    metrics::{
        DegradationQuery, MAX_METRIC_TYPE, MAX_SERVICE_NAME, Statistic, TopBy,
        degradation::{Direction, Settings},
    },
    token::Scope,
};

use super::{
    super::wire_figures::{
        DegradationParams, MetricDegradations, TopMetricSeries, TopMetrics, TopParams,
    },
    series,
};
use crate::{
    AppState,
    error::ApiResult,
    input::Query,
    routes::{Call, Routes},
};

const TOP_BY: &[(&str, TopBy); 5] = &[
    ("avg", TopBy::Mean),
    ("max", TopBy::Max),
    ("p95", TopBy::P95),
    ("sum", TopBy::Sum),
    ("count", TopBy::Count),
];

const STATISTICS: &[(&str, Statistic); 5] = &[
    ("avg", Statistic::Mean),
    ("max", Statistic::Max),
    ("p50", Statistic::P50),
    ("p95", Statistic::P95),
    ("p99", Statistic::P99),
];

const DIRECTIONS: &[(&str, Direction); 3] = &[
    ("up", Direction::Up),
    ("down", Direction::Down),
    ("both", Direction::Both),
];

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    let read = Scope::MetricsRead;
    routes
        .add(
            Call::get("/api/v1/monitoring/metrics/top", read, "The greatest series")
                .describe("Over whole hours that are rolled up.")
                .query::<TopParams>()
                .answers::<TopMetrics>("the series, the greatest first"),
            top,
        )
        .add(
            Call::get(
                "/api/v1/monitoring/metrics/degradations",
                read,
                "Series that got worse",
            )
            .describe(
                "Each series' window is compared, hour by hour, with the same hours of the weeks before, or of the days before \
                 where there are fewer than three weeks, by a robust z-score: how far it is from what these let expect, in \
                 median absolute deviations of the past. It needs two days of history at least.",
            )
            .query::<DegradationParams>()
            .answers::<MetricDegradations>("the series that got worse, the worst first, with the figures that say so")
            .refuses(400, "too_many_series_matched", "more series match than one read may be about")
            .refuses(503, "cold_store_unavailable", "samples of the range are in cold storage, which does not answer"),
            degradations,
        )
}

async fn top(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<TopMetrics>> {
    let service_name = query.optional_name("service_name", 1..=MAX_SERVICE_NAME);
    let metric_type = query.optional_name("metric_type", 1..=MAX_METRIC_TYPE);
    let by = query.optional_one_of("by", TOP_BY).unwrap_or(TopBy::Mean);
    let hours = query.int_or("hours", 1..=2_160, 24);
    let limit = query.int_or("limit", 1..=1_000, 20);
    query.finish()?;
    let metrics = state.store.metrics();
    let found = metrics
        .top(
            by,
            service_name.as_deref(),
            metric_type.as_deref(),
            hours,
            limit,
        )
        .await?;
    let series = found.series.into_iter();
    Ok(Json(TopMetrics {
        by: by.as_str().to_owned(),
        start_time: found.from,
        as_of: found.to,
        series: series
            .map(|top| TopMetricSeries::of(top, by.as_str()))
            .collect(),
    }))
}

async fn degradations(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<MetricDegradations>> {
    let now = state.store.now();
    let default = Settings::default();
    let look = DegradationQuery {
        selector: series(&mut query),
        hours: query.int_or("hours", 1..=168, 1),
        end: query.optional_time("end_time").unwrap_or(now),
        statistic: query
            .optional_one_of("statistic", STATISTICS)
            .unwrap_or(Statistic::P95),
        settings: Settings {
            direction: query
                .optional_one_of("direction", DIRECTIONS)
                .unwrap_or(Direction::Up),
            threshold: query
                .optional_float("threshold", 1.0..=100.0)
                .unwrap_or(default.threshold),
            min_change: query
                .optional_float("min_change", 0.0..=100.0)
                .unwrap_or(default.min_change),
        },
    };
    query.finish()?;
    let found = state.store.metrics().degradations(&look).await?;
    Ok(Json(MetricDegradations {
        as_of: now,
        start_time: look
            .end
            .checked_sub_signed(TimeDelta::hours(look.hours))
            .unwrap_or(look.end),
        end_time: look.end,
        statistic: look.statistic.as_str().to_owned(),
        judged: found.judged,
        not_enough_history: found.not_enough_history,
        silent: found.silent,
        degradations: found.degradations.into_iter().map(Into::into).collect(),
    }))
}
