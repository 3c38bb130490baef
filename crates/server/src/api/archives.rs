//! Archives: which there are, and where a day's rows are.

pub mod wire;

use axum::{Json, extract::State};
use utxoiq_store::{
    Error,
    retention::{ArchiveFilter, State as Stage},
    token::Scope,
};

use super::retention::DATASETS;
use crate::{
    AppState,
    error::ApiResult,
    input::Query,
    routes::{Call, Routes},
};
use wire::{Archives, Whereabouts};

const STATES: &[(&str, Stage); 8] = &[
    ("writing", Stage::Writing),
    ("proved", Stage::Proved),
    ("detached", Stage::Detached),
    ("archived", Stage::Archived),
    ("expired", Stage::Expired),
    ("replaced", Stage::Replaced),
    ("restored", Stage::Restored),
    ("abandoned", Stage::Abandoned),
];

/// The longest cursor, in characters.
const MAX_CURSOR: usize = 100;

/// The calls.
pub fn routes() -> Routes {
    Routes::new("archives", "What is in cold storage, and where every day is (C7).")
        .add(
            Call::get("/api/v1/monitoring/archives", Scope::RetentionRead, "Archives, by day, dataset and part")
                .describe("`next_cursor` is null on the last page.")
                .query::<wire::ListQuery>()
                .answers::<Archives>("a page of archives")
                .refuses(400, "invalid_range", "`to` is before `from`")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives"),
            list,
        )
        .add(
            Call::get("/api/v1/monitoring/archives/where-is", Scope::RetentionRead, "Where a day's rows are, with the proof")
                .describe(
                    "For each dataset: `hot` (in the database), `cold` (in archives), `both`, `deleted` or `never`; every \
                     archive there was, and what the audit log says of the day.",
                )
                .query::<wire::WhereQuery>()
                .answers::<Whereabouts>("where they are")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives"),
            where_is,
        )
}

async fn list(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Json<Archives>> {
    let filter = ArchiveFilter {
        dataset: query.optional_one_of("dataset", DATASETS),
        from: query.optional_day("from"),
        to: query.optional_day("to"),
        state: query.optional_one_of("state", STATES),
    };
    let limit = query.int_or("limit", 1..=1_000, 100);
    let cursor = query.optional_text("cursor", 1..=MAX_CURSOR);
    query.finish()?;
    if matches!((filter.from, filter.to), (Some(from), Some(to)) if from > to) {
        let message = "the range ends before it begins: exchange its bounds";
        return Err(Error::invalid("invalid_range", message).into());
    }
    let cursor = cursor.map(|cursor| cursor.parse()).transpose()?;
    let retention = state.store.retention()?;
    let page = retention.archives(&filter, limit, cursor).await?;
    Ok(Json(Archives {
        archives: page.archives.into_iter().map(Into::into).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    }))
}

async fn where_is(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<Whereabouts>> {
    let day = query.day("day");
    let dataset = query.optional_one_of("dataset", DATASETS);
    query.finish()?;
    let found = state.store.retention()?.where_is(day, dataset).await?;
    Ok(Json(Whereabouts {
        day,
        datasets: found.into_iter().map(Into::into).collect(),
    }))
}
