//! Alerts: what is wrong, who knows of it, and taking it (C8.5).

pub mod wire;

use axum::{Json, extract::State};
use utxoiq_store::{
    alert::{Filter, MAX_NOTE},
    token::Scope,
};

use crate::{
    AppState,
    auth::Authenticated,
    error::ApiResult,
    input::{Body, Path, Query},
    routes::{Call, Routes},
};
use wire::{Alert, Alerts};

const STATES: &[(&str, Filter); 2] = &[("open", Filter::Open), ("all", Filter::All)];

/// The calls.
pub fn routes() -> Routes {
    Routes::new("alerts", "What is wrong, and who was told (C8.5).")
        .add(
            Call::get("/api/v1/monitoring/alerts", Scope::AlertsRead, "Alerts, the newest first")
                .describe("Each with what every receiver was told, when it is told next, and why it was not.")
                .query::<wire::ListQuery>()
                .answers::<Alerts>("a page of alerts"),
            list,
        )
        .add(
            Call::post("/api/v1/monitoring/alerts/{alert_id}/acknowledge", Scope::AlertsAcknowledge, "Take an alert")
                .describe(
                    "It is not told again while it is open, unless a warning becomes critical. Who has taken it first has it: \
                     taking it again changes nothing, and answers who has.",
                )
                .path_fields::<wire::AlertPath>()
                .body::<wire::Acknowledgement>()
                .answers::<Alert>("the alert")
                .refuses(404, "no_such_alert", "there is no such alert")
                .refuses(409, "alert_resolved", "it is over"),
            acknowledge,
        )
}

async fn list(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Json<Alerts>> {
    let filter = query.optional_one_of("state", STATES);
    let limit = query.int_or("limit", 1..=1_000, 100);
    let offset = query.int_or("offset", 0..=i64::MAX, 0);
    query.finish()?;
    let store = &state.store;
    let filter = filter.unwrap_or(Filter::Open);
    let page = store
        .alerts()
        .list(store.pool(), filter, limit, offset)
        .await?;
    Ok(Json(page.into()))
}

async fn acknowledge(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<Alert>> {
    let id = path.uuid("alert_id").to_string();
    let note = body.optional_text("note", 1..=MAX_NOTE);
    path.and(body).finish()?;
    let store = &state.store;
    let by = super::retention::actor(store, &caller)?;
    let alert = store
        .alerts()
        .acknowledge(store.pool(), &id, &by, note.as_deref(), store.now())
        .await?;
    Ok(Json(alert.into()))
}
