//! The schedule from outside: Cloud Scheduler or cron makes the process look for due tasks.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utxoiq_store::{
    Error,
    schedule::{SlotOutcome, SlotResult, TaskStatus},
    token::Scope,
};

use crate::{
    AppState,
    error::ApiResult,
    routes::{Call, Routes},
};

/// What a tick did.
#[derive(Debug, Serialize, ToSchema)]
pub struct TickAnswer {
    /// `success` when every task that ran succeeded (also when none was due), `failed` when one did not, `running`
    /// when some still run: they go on after this answer.
    status: &'static str,
    /// The same in words.
    message: String,
    /// What became of each task that this call ran, by its name; empty while they run.
    results: BTreeMap<&'static str, TickResult>,
}

/// What became of one task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TickResult {
    /// `succeeded`, `failed`, or `abandoned`: another runner goes on with it.
    status: &'static str,
    /// When it was due.
    slot_at: DateTime<Utc>,
    /// Which attempt at this slot it was.
    attempt: i32,
    /// How many earlier slots, which were missed, it stands for.
    missed: i64,
    /// What the task says about its work.
    outcome: Option<serde_json::Value>,
    /// Why it did not succeed.
    error: Option<String>,
    /// When a failed one is tried again; null when it was given up.
    retry_at: Option<DateTime<Utc>>,
}

/// The schedule.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleAnswer {
    /// Every task with its last run and its next time.
    #[schema(value_type = Vec<Object>)]
    tasks: Vec<TaskStatus>,
}

/// The slice's calls.
pub fn routes() -> Routes {
    Routes::new("schedule", "The durable schedule")
        .add(
            Call::post("/api/v1/monitoring/schedule/tick", Scope::ScheduleRun, "Run what is due")
                .describe(
                    "Each due slot runs once, however many ask at the same time. The answer comes when the tasks that \
                     this call started are done, or after two thirds of the request's time limit, whichever is \
                     earlier; the tasks go on. Calling it when nothing is due costs one query.",
                )
                .answers::<TickAnswer>("what ran"),
            tick,
        )
        .add(
            Call::get("/api/v1/monitoring/schedule", Scope::ScheduleRun, "The tasks, their last runs and next times")
                .answers::<ScheduleAnswer>("the schedule"),
            status,
        )
}

async fn tick(State(state): State<AppState>) -> ApiResult<Json<TickAnswer>> {
    let now = state.store.now();
    let scheduler = state.scheduler.clone();
    // A task of its own: the caller may go away, and what was claimed has to be finished.
    let running = tokio::spawn(async move { scheduler.tick(now).await });
    let patience = Duration::from_secs(state.store.config().server.request_timeout_seconds) * 2 / 3;
    let Ok(ended) = tokio::time::timeout(patience, running).await else {
        return Ok(Json(TickAnswer {
            status: "running",
            message: "tasks are still running and go on; the schedule's status shows how they end"
                .into(),
            results: BTreeMap::new(),
        }));
    };
    let outcomes =
        ended.map_err(|error| Error::internal("a tick ended early").with_source(error))??;
    Ok(Json(answer(outcomes)))
}

fn answer(outcomes: Vec<SlotOutcome>) -> TickAnswer {
    let ran = outcomes.len();
    let failed = outcomes
        .iter()
        .filter(|outcome| !outcome.result.is_success())
        .count();
    let (status, message) = match (ran, failed) {
        (0, _) => ("success", "nothing was due, or others run it".to_owned()),
        (ran, 0) => ("success", format!("{ran} ran")),
        (ran, failed) => ("failed", format!("{failed} of {ran} failed; see results")),
    };
    TickAnswer {
        status,
        message,
        results: outcomes
            .into_iter()
            .map(|outcome| (outcome.task, outcome.into()))
            .collect(),
    }
}

impl From<SlotOutcome> for TickResult {
    fn from(slot: SlotOutcome) -> Self {
        let (status, outcome, error, retry_at) = match slot.result {
            SlotResult::Succeeded { outcome } => ("succeeded", Some(outcome), None, None),
            SlotResult::Failed { error, retry_at } => ("failed", None, Some(error), retry_at),
            SlotResult::Abandoned { reason } => ("abandoned", None, Some(reason), None),
        };
        Self {
            status,
            slot_at: slot.slot_at,
            attempt: slot.attempt,
            missed: slot.missed,
            outcome,
            error,
            retry_at,
        }
    }
}

async fn status(State(state): State<AppState>) -> ApiResult<Json<ScheduleAnswer>> {
    let tasks = state.scheduler.status(state.store.now()).await?;
    Ok(Json(ScheduleAnswer { tasks }))
}
