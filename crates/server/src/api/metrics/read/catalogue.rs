//! Which services and series there are.

use axum::{Json, extract::State};
use utxoiq_store::{
    metrics::{MAX_SERVICE_NAME, read::catalogue::MAX_CATALOGUE_PAGE},
    token::Scope,
};

use super::{
    super::wire_read::{MetricSeriesPage, MetricServices, SeriesQuery, ServicesQuery},
    cursor, series,
};
use crate::{
    AppState,
    error::ApiResult,
    input::Query,
    routes::{Call, Routes},
};

/// How long a page is unless said.
const LIMIT: i64 = 100;

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    let read = Scope::MetricsRead;
    routes
        .add(
            Call::get("/api/v1/monitoring/metrics/series", read, "Series of metrics")
                .query::<SeriesQuery>()
                .answers::<MetricSeriesPage>("the series, in the order of their numbers"),
            list_series,
        )
        .add(
            Call::get("/api/v1/monitoring/metrics/services", read, "Services that report metrics")
                .describe(
                    "With how many series each has. Of the services of a page that have at least a tenth of the series that \
                     one may have, up to 20, the labels and the types are named that most of them come from.",
                )
                .query::<ServicesQuery>()
                .answers::<MetricServices>("the services, in the order of their names"),
            list_services,
        )
}

async fn list_series(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<MetricSeriesPage>> {
    let selector = series(&mut query);
    let limit = query.int_or("limit", 1..=MAX_CATALOGUE_PAGE, LIMIT);
    let after = cursor(&mut query);
    query.finish()?;
    let metrics = state.store.metrics();
    let (series, next) = metrics.series(&selector, limit, after).await?;
    Ok(Json(MetricSeriesPage {
        series: series.into_iter().map(Into::into).collect(),
        next_cursor: next.map(|next| next.to_string()),
    }))
}

async fn list_services(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<MetricServices>> {
    let limit = query.int_or("limit", 1..=MAX_CATALOGUE_PAGE, LIMIT);
    let after = query.optional_name("after", 1..=MAX_SERVICE_NAME);
    query.finish()?;
    let metrics = state.store.metrics();
    let (services, has_more) = metrics.services(limit, after.as_deref()).await?;
    let last = services.last().map(|last| last.service_name.clone());
    Ok(Json(MetricServices {
        services: services.into_iter().map(Into::into).collect(),
        max_series: state.store.config().metrics.max_series_per_service,
        next_after: last.filter(|_| has_more),
    }))
}
