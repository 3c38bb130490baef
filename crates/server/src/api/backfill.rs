//! Backfill calls: the contract's, which know no lease, and those of workers that do.

mod read;
pub mod wire;
mod worker;

use axum::{Json, extract::State, response::Response};
use utxoiq_store::{
    backfill::{BlockRange, JobFilter, MAX_BLOCK, NewJob, Progress, ReportedStart, Status},
    token::Scope,
};

use crate::{
    AppState,
    api::ready_json,
    error::ApiResult,
    input::{Body, Input, Path, Query},
    routes::{Call, Routes},
};
use wire::{Job, JobState};

const STATUSES: &[(&str, Status); 4] = &[
    ("running", Status::Running),
    ("completed", Status::Completed),
    ("failed", Status::Failed),
    ("paused", Status::Paused),
];

/// The last parts of paths that have a meaning of their own: no id of a reporter script. `.` and `..` are among them
/// however they are written: clients take `%2E%2E` out of a path, too, before they send it.
const RESERVED: [&str; 6] = ["start", "progress", "status", "open", ".", ".."];

/// The most characters of a text that has no limit of its own; what is kept of it is less.
const MAX_MESSAGE: usize = 100_000;

/// The calls.
pub fn routes() -> Routes {
    let routes = Routes::new("backfill", "Long runs over ranges of blocks that go on from exactly what is missing (C1).")
        .add(
            Call::post("/api/v1/monitoring/backfill/start", Scope::BackfillWrite, "Start a job")
                .describe("Block bounds are inclusive. Active jobs of one type may not overlap.")
                .body::<wire::Start>()
                .answers::<Job>("the job")
                .refuses(400, "invalid_range", "`end_block` is less than `start_block`")
                .refuses(409, "overlap", "an active job of this type has some of these blocks"),
            start,
        )
        .add(
            Call::post("/api/v1/monitoring/backfill/progress", Scope::BackfillWrite, "Report progress without a lease")
                .describe(
                    "Commits everything below `current_block`; `completed` at the last block commits all. An earlier \
                     block than before changes nothing. Percentage and estimate are the server's own.",
                )
                .query::<wire::JobQuery>()
                .body::<wire::Progress>()
                .answers::<Job>("the job")
                .refuses(400, "block_outside_job", "`current_block` lies outside of the job")
                .refuses(404, "job_not_found", "there is no such job")
                .refuses(409, "job_final", "the job has ended for good")
                .refuses(409, "not_running", "the job has failed; resume it first")
                .refuses(409, "incomplete", "`completed` below the last block")
                .refuses(409, "leased", "workers with leases are at the job"),
            progress,
        )
        .add(
            Call::get("/api/v1/monitoring/backfill/status", Scope::BackfillRead, "List jobs, newest start first")
                .query::<wire::ListQuery>()
                .answers_list::<Job>("the jobs"),
            status,
        )
        .add(
            Call::get("/api/v1/monitoring/backfill/{job_id}", Scope::BackfillRead, "Read one job")
                .path_fields::<wire::JobPath>()
                .answers::<Job>("the job")
                .refuses(404, "job_not_found", "there is no such job"),
            get,
        )
        .add(
            Call::post("/api/v1/monitoring/backfill", Scope::BackfillWrite, "Start a reporter script's job")
                .describe("With an id used before, that job goes on. Its type is `reporter`.")
                .body::<wire::ReporterStart>()
                .answers::<Job>("the job")
                .refuses(400, "invalid_range", "`end_block` is less than `start_block`")
                .refuses(400, "block_outside_job", "`current_block` lies outside of the job")
                .refuses(409, "overlap", "another active reporter's job has some of these blocks")
                .refuses(409, "other_range", "the job of this id has other blocks")
                .refuses(409, "job_final", "the job of this id has ended for good")
                .refuses(409, "not_running", "it was ended at the same moment")
                .refuses(409, "job_exists", "it was started at the same moment")
                .refuses(409, "leased", "workers with leases are at the job"),
            start_reported,
        )
        .add(
            Call::put("/api/v1/monitoring/backfill/{job_id}", Scope::BackfillWrite, "Report a reporter script's progress or end")
                .describe(
                    "`completed` with `error_count` above 0 fails the job and answers 409 `incomplete`: some blocks are \
                     missing, and which ones the script did not say.",
                )
                .path_fields::<wire::ReporterPath>()
                .body::<wire::ReporterProgress>()
                .answers::<Job>("the job")
                .refuses(400, "block_outside_job", "`current_block` lies outside of the job")
                .refuses(404, "job_not_found", "there is no job of this id")
                .refuses(409, "job_final", "the job has ended for good")
                .refuses(409, "not_running", "the job has failed; start it again with its id")
                .refuses(409, "incomplete", "blocks are missing")
                .refuses(409, "leased", "workers with leases are at the job"),
            report,
        );
    worker::add(read::add(routes))
}

/// A body's range of blocks; both bounds are checked on their own first, so that each can be named.
fn blocks(body: &mut Input) -> (i64, i64) {
    (
        body.int("start_block", 0..=MAX_BLOCK),
        body.int("end_block", 0..=MAX_BLOCK),
    )
}

fn new_job(body: &mut Input) -> (String, (i64, i64), Option<String>) {
    (
        body.text("job_type", 1..=50),
        blocks(body),
        body.optional_text("created_by", 1..=100),
    )
}

async fn start(State(state): State<AppState>, Body(mut body): Body) -> ApiResult<Json<Job>> {
    let (job_type, (first, last), created_by) = new_job(&mut body);
    body.finish()?;
    let new = NewJob {
        job_type,
        blocks: BlockRange::inclusive(first, last)?,
        created_by,
    };
    let job = state
        .store
        .backfill()
        .start(&new, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

async fn progress(
    State(state): State<AppState>,
    Query(mut query): Query,
    Body(mut body): Body,
) -> ApiResult<Json<Job>> {
    let id = query.uuid("job_id");
    let progress = Progress {
        current_block: Some(body.int("current_block", 0..=MAX_BLOCK)),
        status: body.optional_one_of("status", STATUSES),
        error_message: body.optional_text("error_message", 0..=MAX_MESSAGE),
        ..Progress::default()
    };
    // Checked for what they are, and not stored: both follow from what is finished.
    body.float("progress_percentage", 0.0..=100.0);
    body.optional_time("estimated_completion");
    query.and(body).finish()?;
    let job = state
        .store
        .backfill()
        .report(id, &progress, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

async fn status(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<Vec<Job>>> {
    let filter = JobFilter {
        status: query.optional_one_of("status", STATUSES),
        job_type: query.optional_text("job_type", 1..=50),
        limit: query.int_or("limit", 1..=100, 10),
        offset: query.int_or("offset", 0..=i64::MAX, 0),
    };
    query.finish()?;
    let jobs = state.store.backfill().recent_list(&filter).await?;
    Ok(Json(jobs.iter().map(Into::into).collect()))
}

async fn get(State(state): State<AppState>, Path(mut path): Path) -> ApiResult<Response> {
    let id = path.uuid("job_id");
    path.finish()?;
    let recent = state.store.backfill().recent(id).await?;
    if recent.value.is_none() {
        return Err(read::not_found(id));
    }
    Ok(ready_json(recent.rendered(|job| {
        let job = job.as_ref().map(Job::from);
        serde_json::to_vec(&job).unwrap_or_default()
    })))
}

async fn start_reported(
    State(state): State<AppState>,
    Body(mut body): Body,
) -> ApiResult<Json<Job>> {
    let external_id = body.text("job_id", 1..=255);
    if RESERVED.contains(&external_id.as_str()) {
        body.refuse("job_id", "is a reserved word; choose another id");
    }
    let (first, last) = blocks(&mut body);
    let current_block = body.optional_int("current_block", 0..=MAX_BLOCK);
    let error_count = body.int_or("error_count", 0..=i64::MAX, 0);
    body.optional_one_of("status", STATUSES);
    body.optional_int("blocks_processed", 0..=i64::MAX);
    check_reported_figures(&mut body);
    body.optional_time("started_at");
    body.finish()?;
    let start = ReportedStart {
        external_id,
        blocks: BlockRange::inclusive(first, last)?,
        current_block,
        error_count,
    };
    let job = state
        .store
        .backfill()
        .start_reported(&start, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

async fn report(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<Job>> {
    let external_id = path.text("job_id", 1..=255);
    let progress = Progress {
        current_block: body.optional_int("current_block", 0..=MAX_BLOCK),
        status: body.optional_one_of("status", STATUSES),
        error_message: body.optional_text("error_message", 0..=MAX_MESSAGE),
        error_count: body.int_or("error_count", 0..=i64::MAX, 0),
        blocks_processed: body.optional_int("blocks_processed", 0..=i64::MAX),
    };
    check_reported_figures(&mut body);
    path.and(body).finish()?;
    let job = state
        .store
        .backfill()
        .report_external(&external_id, &progress, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

/// The reporter script's own figures: checked for what they are, and not stored.
fn check_reported_figures(body: &mut Input) {
    body.optional_int("blocks_remaining", 0..=i64::MAX);
    body.optional_float("progress_percent", 0.0..=100.0);
    body.optional_float("rate_blocks_per_sec", 0.0..=f64::MAX);
    body.optional_time("estimated_completion");
    body.optional_time("updated_at");
}
