//! Retention: what is due, doing it, and legal holds (C7).

pub mod wire;

use std::time::Duration;

use axum::{Json, extract::State};
use chrono::{NaiveTime, TimeDelta};
use utxoiq_store::{
    Error, Store,
    cold::Dataset,
    retention::{Held, MAX_REASON, Report},
    token::{Caller, Identity, Scope},
};

use crate::{
    AppState,
    auth::Authenticated,
    error::ApiResult,
    input::{Body, Input, Path, Query},
    routes::{Call, Routes},
};
use wire::{Hold, Holds, Plan, Released, Results, RunAnswer, Status};

pub(super) const DATASETS: &[(&str, Dataset); 4] = &[
    ("metrics", Dataset::Metrics),
    ("backfill_jobs", Dataset::BackfillJobs),
    ("feedback", Dataset::Feedback),
    ("feedback_history", Dataset::FeedbackHistory),
];

/// What a hold may be on.
#[derive(Debug, Clone, Copy)]
enum Scoped {
    Day,
    User,
    Insight,
}

const SCOPES: &[(&str, Scoped); 3] = &[
    ("day", Scoped::Day),
    ("user", Scoped::User),
    ("insight", Scoped::Insight),
];

/// The longest name of a user or an insight, in characters.
const MAX_NAME: usize = 100;

/// The calls.
pub fn routes() -> Routes {
    Routes::new("retention", "What leaves the database and cold storage, and what is kept (C7).")
        .add(
            Call::post("/api/v1/monitoring/retention/run", Scope::RetentionRun, "Archive and delete what is due")
                .describe(
                    "One run at a time. The answer comes when it is done, or after two thirds of the request's time limit, \
                     whichever is earlier; the run goes on, and its status shows how it ends. A step that failed is no \
                     success: the status is then `failed`, and `failures` names what to do.",
                )
                .answers::<RunAnswer>("what was done")
                .refuses(409, "retention_running", "a run is under way")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives")
                .refuses(409, "no_cold_store", "there is no cold store to archive to"),
            run,
        )
        .add(
            Call::get("/api/v1/monitoring/retention/plan", Scope::RetentionRead, "What a run would do, and why")
                .query::<wire::PlanQuery>()
                .answers::<Plan>("the plan")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives"),
            plan,
        )
        .add(
            Call::get("/api/v1/monitoring/retention/status", Scope::RetentionRead, "The latest runs, the newest first")
                .query::<wire::StatusQuery>()
                .answers::<Status>("the runs")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives"),
            status,
        )
        .add(
            Call::get("/api/v1/monitoring/retention/holds", Scope::RetentionRead, "The legal holds, the newest first")
                .answers::<Holds>("the holds")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives"),
            holds,
        )
        .add(
            Call::post("/api/v1/monitoring/retention/holds", Scope::RetentionHold, "Place a legal hold")
                .describe(
                    "What it is on neither leaves the database nor cold storage until it is released, or `expires_at` has \
                     passed. A hold on a user needs `retention.pseudonym_key`, as the audit log names no users.",
                )
                .body::<wire::NewHold>()
                .answers::<Hold>("the hold")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives")
                .refuses(409, "no_pseudonym_key", "it is on a user, who cannot be named in the audit log"),
            place,
        )
        .add(
            Call::post("/api/v1/monitoring/retention/holds/{hold_id}/release", Scope::RetentionHold, "Release a legal hold")
                .path_fields::<wire::HoldPath>()
                .body::<wire::Release>()
                .answers::<Released>("the hold that was released")
                .refuses(404, "no_such_hold", "there is no such hold")
                .refuses(409, "retention_not_configured", "this service has no connection of the role that archives"),
            release,
        )
}

/// What the audit log calls a caller: a service token by its name, an end user by a pseudonym.
///
/// Fails with `no_pseudonym_key` where there is no key to make one with: nobody does what is audited without being named.
pub(crate) fn actor(store: &Store, caller: &Caller) -> Result<String, Error> {
    match &caller.identity {
        Identity::Token { name, .. } => Ok(format!("token: {name}")),
        Identity::User => Ok(format!("user: {}", store.pseudonym(&caller.subject)?)),
    }
}

async fn run(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> ApiResult<Json<RunAnswer>> {
    let (store, actor) = (state.store.clone(), actor(&state.store, &caller)?);
    let now = store.now();
    // A task of its own: the caller may go away, and the run goes on.
    let running = tokio::spawn(async move {
        let ended: Result<_, Error> = async { store.retention()?.run(now, &actor).await }.await;
        // Whoever asked may have been answered that it goes on.
        if let Err(error) = &ended {
            tracing::warn!(error = %error.report(), "a run of retention that was asked for did not succeed");
        }
        ended
    });
    let patience = Duration::from_secs(state.store.config().server.request_timeout_seconds) * 2 / 3;
    let Ok(ended) = tokio::time::timeout(patience, running).await else {
        return Ok(Json(RunAnswer {
            status: "running",
            message: "retention is still running and goes on; its status shows how it ends".into(),
            results: results(
                &state.store,
                &Report {
                    began_at: now,
                    ..Report::default()
                },
            ),
        }));
    };
    let report =
        ended.map_err(|error| Error::internal("a run ended early").with_source(error))??;
    let failed = report.failures.len();
    Ok(Json(RunAnswer {
        status: if failed == 0 { "success" } else { "failed" },
        message: match report.failures.first() {
            None => "Retention policies executed successfully".into(),
            Some(first) => format!("{failed} steps failed, the first: {}", first.message),
        },
        results: results(&state.store, &report),
    }))
}

/// A report in the form that existing clients read, with what we add.
fn results(store: &Store, report: &Report) -> Results {
    let base = store.config().cold.url.clone().unwrap_or_default();
    let uri = |object: &String| format!("{}/{object}", base.trim_end_matches('/'));
    let of = |dataset: Dataset| {
        let moved = report
            .archived
            .iter()
            .filter(|moved| moved.dataset == dataset.name());
        let uris: Vec<String> = moved.map(|moved| uri(&moved.object)).collect();
        wire::Archived {
            archived_count: report.archived_rows(dataset),
            // What was archived left the database with it.
            deleted_count: report.archived_rows(dataset),
            archive_uri: uris.last().cloned(),
            archive_uris: uris,
            expired_count: report.expired_rows(dataset),
        }
    };
    let metrics = of(Dataset::Metrics);
    let gone = TimeDelta::days(i64::from(store.config().retention.metrics_days) - 1);
    let cutoff = (report.began_at - gone).date_naive();
    Results {
        execution_time: report.began_at,
        run: (report.run > 0).then_some(report.run),
        backfill_jobs: of(Dataset::BackfillJobs),
        feedback: of(Dataset::Feedback),
        feedback_history: of(Dataset::FeedbackHistory),
        metrics_archive: wire::MetricsArchived {
            archived_count: metrics.archived_count,
            archive_uris: metrics.archive_uris,
        },
        metrics_delete: wire::MetricsDeleted {
            deleted_count: metrics.expired_count,
            cutoff_date: cutoff.and_time(NaiveTime::MIN).and_utc(),
        },
        kept: report.kept.iter().map(Into::into).collect(),
        removed_objects: report.removed_objects,
        failures: report.failures.iter().map(Into::into).collect(),
    }
}

async fn plan(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Json<Plan>> {
    let as_of = query.optional_time("as_of");
    query.finish()?;
    let today = as_of.unwrap_or_else(|| state.store.now()).date_naive();
    let plan = state.store.retention()?.plan(today).await?;
    Ok(Json(plan.into()))
}

async fn status(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Json<Status>> {
    let limit = query.int_or("limit", 1..=1_000, 10);
    query.finish()?;
    let runs = state.store.retention()?.runs(limit).await?;
    Ok(Json(Status {
        runs: runs.into_iter().map(Into::into).collect(),
    }))
}

async fn holds(State(state): State<AppState>) -> ApiResult<Json<Holds>> {
    let holds = state.store.retention()?.holds().await?;
    Ok(Json(Holds {
        holds: holds.into_iter().map(Into::into).collect(),
    }))
}

/// Reads what a hold is on; none where that was refused.
fn held(body: &mut Input) -> Option<Held> {
    let scope = body.one_of("scope", SCOPES);
    let dataset = body.optional_one_of("dataset", DATASETS);
    let (first_day, last_day) = (
        body.optional_day("first_day"),
        body.optional_day("last_day"),
    );
    let user_id = body.optional_name("user_id", 1..=MAX_NAME);
    let insight_id = body.optional_name("insight_id", 1..=MAX_NAME);
    let (field, held) = match scope {
        Scoped::Day => (
            "first_day",
            first_day.map(|first_day| Held::Day {
                dataset,
                first_day,
                last_day: last_day.unwrap_or(first_day),
            }),
        ),
        Scoped::User => ("user_id", user_id.map(|user_id| Held::User { user_id })),
        Scoped::Insight => (
            "insight_id",
            insight_id.map(|insight_id| Held::Insight { insight_id }),
        ),
    };
    if held.is_none() {
        body.refuse(field, "is needed for a hold of this scope");
    }
    held
}

async fn place(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Body(mut body): Body,
) -> ApiResult<Json<Hold>> {
    let held = held(&mut body);
    let reason = body.text("reason", 1..=MAX_REASON);
    let expires_at = body.optional_time("expires_at");
    body.finish()?;
    let held = held.ok_or_else(|| Error::internal("a hold without what it is on"))?;
    let now = state.store.now();
    let retention = state.store.retention()?;
    let hold = retention
        .place_hold(
            held,
            &reason,
            expires_at,
            now,
            &actor(&state.store, &caller)?,
        )
        .await?;
    Ok(Json(hold.into()))
}

async fn release(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<Released>> {
    let id = path.uuid("hold_id");
    let reason = body.text("reason", 1..=MAX_REASON);
    path.and(body).finish()?;
    let now = state.store.now();
    let retention = state.store.retention()?;
    let hold = retention
        .release_hold(id, &reason, now, &actor(&state.store, &caller)?)
        .await?;
    Ok(Json(Released {
        released_at: now,
        hold: hold.into(),
    }))
}
