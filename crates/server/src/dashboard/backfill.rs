//! Backfill jobs: how far each is, what of its blocks is finished, claimed and missing, and steering it.

mod job;

use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use utxoiq_store::{
    backfill::{Job, JobFilter, Status},
    token::Scope,
};
use uuid::Uuid;

use super::{
    Asked, View, Viewer, page,
    parts::{self, Tone},
};
use crate::{
    AppState,
    error::ApiResult,
    input::Path,
    routes::{Call, Routes},
};

const PATH: &str = "/dashboard/backfill";

/// How many jobs a page has.
const LIMIT: i64 = 25;

/// The states one can look for. A cancelled job is listed among the failed, as clients see it.
const STATES: &[(&str, Status); 4] = &[
    ("running", Status::Running),
    ("paused", Status::Paused),
    ("completed", Status::Completed),
    ("failed", Status::Failed),
];

const TABS: [(&str, &str); 5] = [
    ("", "All"),
    ("running", "Running"),
    ("paused", "Paused"),
    ("completed", "Completed"),
    ("failed", "Failed or cancelled"),
];

/// Adds the pages and what is done on them.
pub(super) fn add(routes: Routes) -> Routes {
    let read = Some(Scope::BackfillRead);
    let write = Some(Scope::BackfillWrite);
    let routes = page(routes, PATH, "/dashboard/live/backfill", read, list);
    let routes = page(
        routes,
        "/dashboard/backfill/{job_id}",
        "/dashboard/live/backfill/{job_id}",
        read,
        job::view,
    );
    routes
        .add(
            Call::done("/dashboard/backfill/{job_id}/pause", write, "Pause a job"),
            pause,
        )
        .add(
            Call::done("/dashboard/backfill/{job_id}/resume", write, "Resume a job"),
            resume,
        )
        .add(
            Call::done("/dashboard/backfill/{job_id}/cancel", write, "Cancel a job"),
            cancel,
        )
}

async fn list(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let word = query.optional_text("state", 0..=20).unwrap_or_default();
    let status = query.optional_one_of("state", STATES);
    let job_type = query.optional_text("type", 0..=50).unwrap_or_default();
    let offset = query.int_or("offset", 0..=i64::MAX, 0);
    query.finish()?;
    let filter = JobFilter {
        status,
        job_type: Some(job_type.clone()).filter(|kind| !kind.trim().is_empty()),
        // One more tells whether there are more.
        limit: LIMIT + 1,
        offset,
    };
    let mut jobs = state.store.backfill().list(&filter).await?;
    let has_more = jobs.len() > usize::try_from(LIMIT).unwrap_or_default();
    jobs.truncate(usize::try_from(LIMIT).unwrap_or_default());
    let conditions = super::layout::encoded(&[("state", &word), ("type", &job_type)]);
    let earlier = (offset > 0).then(|| format!("offset={}", (offset - LIMIT).max(0)));
    let later = has_more.then(|| format!("offset={}", offset.saturating_add(LIMIT)));
    let running = jobs
        .iter()
        .filter(|job| job.status == Status::Running)
        .count();
    Ok(View::new("Backfill")
        .with("conditions", conditions_form(&word, &job_type))
        .with(
            "jobs",
            html! {
                p.unseen role="status" { (running) " of the jobs on this page are running" }
                section.card {
                    (rows(&jobs, &viewer, filter.job_type.is_some() || status.is_some()))
                    (parts::pager(PATH, &conditions, earlier.as_deref(), later.as_deref()))
                }
            },
        ))
}

fn conditions_form(word: &str, job_type: &str) -> Markup {
    html! {
        ul.tabs {
            @for (state, name) in TABS {
                @let query = super::layout::encoded(&[("state", state), ("type", job_type)]);
                li { a href=(format!("{PATH}?{query}")) aria-current=[(state == word).then_some("true")] { (name) } }
            }
        }
        form.conditions method="get" action=(PATH) {
            input type="hidden" name="state" value=(word);
            (parts::field("type", "Job type", "search", job_type))
            button type="submit" { "Filter" }
        }
    }
}

fn rows(jobs: &[Job], viewer: &Viewer, is_filtered: bool) -> Markup {
    if jobs.is_empty() && is_filtered {
        return parts::empty("No job is like this. Choose other conditions above.", "");
    }
    if jobs.is_empty() {
        return parts::empty(
            "No job was ever started. This works through blocks, chunk by chunk, and survives being killed:",
            "utxoiq-store backfill run --type utxo --from 0 --to 100000 -- ./index-blocks {start} {end}",
        );
    }
    let columns = [
        "Job", "State", "Progress", "#Covered", "#Blocks", "#Rate", "Done", "Heard of", "Started",
    ];
    let rows: Vec<Vec<Markup>> = jobs.iter().map(|job| row(job, viewer.now)).collect();
    parts::table("Backfill jobs, the newest first", &columns, &rows)
}

fn row(job: &Job, now: DateTime<Utc>) -> Vec<Markup> {
    vec![
        html! { a href=(address(job.id)) { (job.job_type) } br; span.hint.one-line { (parts::count(job.blocks.start)) " – " (parts::count(job.blocks.end - 1)) } },
        badge(job.status),
        html! { (parts::bar("Progress", job.progress_percentage, 100.0)) },
        parts::cell(format!("{} %", parts::number(job.progress_percentage))),
        parts::cell(parts::count(job.covered_blocks)),
        parts::cell(rate(job, now).map_or_else(|| "–".to_owned(), parts::rate)),
        done(job, now),
        parts::ago(job.heard_at, now),
        parts::ago(job.started_at, now),
    ]
}

/// When it was, or will be, done.
fn done(job: &Job, now: DateTime<Utc>) -> Markup {
    let at = job
        .ended_at
        .or(job.completed_at)
        .or(job.estimated_completion);
    parts::ago_or(at, now, "not known")
}

/// Blocks a second, over all its time.
pub(super) fn rate(job: &Job, now: DateTime<Utc>) -> Option<f64> {
    let long = job.ended_at.unwrap_or(now) - job.started_at;
    (job.covered_blocks > 0 && long > TimeDelta::zero())
        .then(|| job.covered_blocks as f64 * 1_000.0 / long.num_milliseconds().max(1) as f64)
}

pub(super) fn badge(status: Status) -> Markup {
    let tone = match status {
        Status::Running => Tone::Busy,
        Status::Paused => Tone::Warning,
        Status::Completed => Tone::Good,
        Status::Failed => Tone::Bad,
        Status::Cancelled => Tone::Plain,
    };
    parts::state(tone, status.as_str())
}

pub(super) fn address(id: Uuid) -> String {
    format!("{PATH}/{id}")
}

fn job_id(mut path: Path) -> ApiResult<Uuid> {
    let id = path.0.uuid("job_id");
    path.0.finish()?;
    Ok(id)
}

fn back(id: Uuid, done: &str) -> Response {
    Redirect::to(&format!("{}?done={done}", address(id))).into_response()
}

async fn pause(State(state): State<AppState>, path: Path) -> ApiResult<Response> {
    let id = job_id(path)?;
    state.store.backfill().pause(id).await?;
    Ok(back(id, "paused"))
}

async fn resume(State(state): State<AppState>, path: Path) -> ApiResult<Response> {
    let id = job_id(path)?;
    state.store.backfill().resume(id, state.store.now()).await?;
    Ok(back(id, "resumed"))
}

async fn cancel(State(state): State<AppState>, path: Path) -> ApiResult<Response> {
    let id = job_id(path)?;
    state.store.backfill().cancel(id, state.store.now()).await?;
    Ok(back(id, "cancelled"))
}
