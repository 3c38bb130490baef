//! The criteria, and how they stand.

pub mod wire;

use axum::{Json, extract::State};
use chrono::TimeDelta;
use utxoiq_store::{
    slo::{MAX_WINDOW_HOURS, State as CriterionState},
    token::Scope,
};

use crate::{
    AppState,
    error::ApiResult,
    input::{Input, Path, Query},
    routes::{Call, Routes},
};
use wire::{CriterionDetails, Report};

const PATH: &str = "/api/v1/slo";

const STATES: &[(&str, CriterionState); 3] = &[
    ("met", CriterionState::Met),
    ("missed", CriterionState::Missed),
    ("unknown", CriterionState::Unknown),
];

/// The calls.
pub fn routes() -> Routes {
    Routes::new("slo", "The acceptance criteria, C1.1 to C8.5, and how they stand.")
        .add(
            Call::get(PATH, Scope::SloRead, "All criteria, and how they stand")
                .describe(
                    "Judged at most two seconds ago, from what the processes measured, from the tables, or from the last time that \
                     it was tried. The counts are of all criteria, whichever are asked for.",
                )
                .query::<wire::ReportQuery>()
                .answers::<Report>("how they stand"),
            report,
        )
        .add(
            Call::get("/api/v1/slo/{criterion}", Scope::SloRead, "One criterion, how it stands, and how it stood")
                .path_fields::<wire::CriterionPath>()
                .query::<wire::WindowQuery>()
                .answers::<CriterionDetails>("how it stands and stood")
                .refuses(404, "criterion_not_found", "there is no such criterion"),
            criterion,
        )
}

/// The window that is asked for.
fn window(query: &mut Input) -> Option<TimeDelta> {
    let hours = query.optional_int("window_hours", 1..=MAX_WINDOW_HOURS);
    hours.and_then(TimeDelta::try_hours)
}

async fn report(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Json<Report>> {
    let wanted = query.optional_one_of("state", STATES);
    let window = window(&mut query);
    query.finish()?;
    let store = &state.store;
    let report = store.slo().report(store.now(), window).await;
    Ok(Json(Report::of(&report, wanted)))
}

async fn criterion(
    State(state): State<AppState>,
    Path(mut path): Path,
    Query(mut query): Query,
) -> ApiResult<Json<CriterionDetails>> {
    let id = path.text("criterion", 4..=4);
    let window = window(&mut query);
    path.and(query).finish()?;
    let store = &state.store;
    let criterion = store.slo().criterion(&id, store.now(), window).await?;
    let history = store.slo().changes(criterion.id).await?;
    Ok(Json(CriterionDetails {
        criterion: criterion.into(),
        history: history.into_iter().map(Into::into).collect(),
    }))
}
