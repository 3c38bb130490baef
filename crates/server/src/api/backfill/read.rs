//! Reading more of a job than the contract's clients know, and steering it.

use axum::{Json, extract::State};
use utxoiq_store::{
    backfill::{BlockRange, MAX_BLOCK, NewJob},
    error::Error,
    token::Scope,
};
use uuid::Uuid;

use super::{
    JobState, MAX_MESSAGE, new_job,
    wire::{DetailsAnswer, Fail, Gaps, JobPath, Open, Opened, Resumed, Rewind},
};
use crate::{
    AppState,
    error::{ApiError, ApiResult},
    input::{Body, Path},
    routes::{Call, Routes},
};

const FINAL: (u16, &str, &str) = (409, "job_final", "the job has ended for good");

fn call(
    method: fn(&'static str, Scope, &'static str) -> Call,
    path: &'static str,
    scope: Scope,
    summary: &'static str,
) -> Call {
    method(path, scope, summary)
        .path_fields::<JobPath>()
        .refuses(404, "job_not_found", "there is no such job")
}

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    let (read, write) = (Scope::BackfillRead, Scope::BackfillWrite);
    routes
        .add(
            Call::post("/api/v1/monitoring/backfill/open", write, "Go on with a job, or start it")
                .describe(
                    "Answers the newest job of exactly this type and range; a failed one goes on as a new attempt. Where \
                     there is none, one is started. Several callers at once get the same job.",
                )
                .body::<Open>()
                .answers::<Opened>("the job")
                .refuses(400, "invalid_range", "`end_block` is less than `start_block`")
                .refuses(409, "overlap", "another active job of this type has some of these blocks"),
            open,
        )
        .add(
            call(Call::get, "/api/v1/monitoring/backfill/{job_id}/state", read, "Read a job with its attempt and its true state")
                .answers::<JobState>("the job"),
            read_state,
        )
        .add(
            call(Call::get, "/api/v1/monitoring/backfill/{job_id}/details", read, "Read a job's ledger and history")
                .answers::<DetailsAnswer>("the job with its ledger, attempts, errors and checkpoints"),
            details,
        )
        .add(
            call(Call::get, "/api/v1/monitoring/backfill/{job_id}/gaps", read, "List what is missing of a job")
                .answers::<Gaps>("the missing ranges"),
            gaps,
        )
        .add(
            call(Call::post, "/api/v1/monitoring/backfill/{job_id}/pause", write, "Pause a job")
                .describe("Workers hear it on their next heartbeat.")
                .answers::<JobState>("the job")
                .refuses(FINAL.0, FINAL.1, FINAL.2)
                .refuses(409, "not_running", "the job has failed"),
            pause,
        )
        .add(
            call(Call::post, "/api/v1/monitoring/backfill/{job_id}/resume", write, "Resume a paused or failed job")
                .describe("A failed job goes on as a new attempt. Answers exactly what is missing.")
                .answers::<Resumed>("the job and what is missing of it")
                .refuses(FINAL.0, FINAL.1, FINAL.2)
                .refuses(409, "overlap", "another active job of this type has some of its blocks"),
            resume,
        )
        .add(
            call(Call::post, "/api/v1/monitoring/backfill/{job_id}/cancel", write, "Cancel a job for good")
                .describe("Its workers can record nothing more from now on.")
                .answers::<JobState>("the job")
                .refuses(FINAL.0, FINAL.1, FINAL.2),
            cancel,
        )
        .add(
            call(Call::post, "/api/v1/monitoring/backfill/{job_id}/fail", write, "End a job as failed")
                .describe("It can be resumed.")
                .body::<Fail>()
                .answers::<JobState>("the job")
                .refuses(FINAL.0, FINAL.1, FINAL.2),
            fail,
        )
        .add(
            call(Call::post, "/api/v1/monitoring/backfill/{job_id}/complete", write, "Complete a job whose blocks are all finished")
                .answers::<JobState>("the job")
                .refuses(FINAL.0, FINAL.1, FINAL.2)
                .refuses(409, "not_running", "the job has failed")
                .refuses(409, "incomplete", "blocks are missing"),
            complete,
        )
        .add(
            call(Call::post, "/api/v1/monitoring/backfill/{job_id}/rewind", write, "Do a job's upper blocks again")
                .describe("After a chain reorganisation: takes a block and all above it out of the ledger.")
                .body::<Rewind>()
                .answers::<JobState>("the job")
                .refuses(400, "block_outside_job", "`from_block` lies outside of the job")
                .refuses(FINAL.0, FINAL.1, FINAL.2)
                .refuses(409, "not_running", "the job has failed"),
            rewind,
        )
}

pub(super) fn not_found(id: Uuid) -> ApiError {
    Error::not_found("job_not_found", format!("backfill job {id} not found")).into()
}

fn job_id(mut path: Path) -> ApiResult<Uuid> {
    let id = path.0.uuid("job_id");
    path.0.finish()?;
    Ok(id)
}

async fn open(State(state): State<AppState>, Body(mut body): Body) -> ApiResult<Json<Opened>> {
    let (job_type, (first, last), created_by) = new_job(&mut body);
    let again = body.bool_or("again", false);
    body.finish()?;
    let new = NewJob {
        job_type,
        blocks: BlockRange::inclusive(first, last)?,
        created_by,
    };
    let opened = state
        .store
        .backfill()
        .open(&new, again, state.store.now())
        .await?;
    Ok(Json(Opened {
        job: (&opened.job).into(),
        is_new: opened.is_new,
    }))
}

async fn read_state(State(app): State<AppState>, path: Path) -> ApiResult<Json<JobState>> {
    let id = job_id(path)?;
    let job = app
        .store
        .backfill()
        .get(id)
        .await?
        .ok_or_else(|| not_found(id))?;
    Ok(Json((&job).into()))
}

async fn details(State(state): State<AppState>, path: Path) -> ApiResult<Json<DetailsAnswer>> {
    let id = job_id(path)?;
    let details = state
        .store
        .backfill()
        .details(id, state.store.now())
        .await?;
    Ok(Json((&details.ok_or_else(|| not_found(id))?).into()))
}

async fn gaps(State(state): State<AppState>, path: Path) -> ApiResult<Json<Gaps>> {
    let gaps = state
        .store
        .backfill()
        .gaps(job_id(path)?, state.store.now())
        .await?;
    Ok(Json(Gaps {
        missing: gaps.iter().map(Into::into).collect(),
    }))
}

async fn pause(State(state): State<AppState>, path: Path) -> ApiResult<Json<JobState>> {
    let job = state.store.backfill().pause(job_id(path)?).await?;
    Ok(Json((&job).into()))
}

async fn resume(State(state): State<AppState>, path: Path) -> ApiResult<Json<Resumed>> {
    let (job, missing) = state
        .store
        .backfill()
        .resume(job_id(path)?, state.store.now())
        .await?;
    Ok(Json(Resumed {
        job: (&job).into(),
        missing: missing.iter().map(Into::into).collect(),
    }))
}

async fn cancel(State(state): State<AppState>, path: Path) -> ApiResult<Json<JobState>> {
    let job = state
        .store
        .backfill()
        .cancel(job_id(path)?, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

async fn fail(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<JobState>> {
    let id = path.uuid("job_id");
    let message = body.text("error_message", 1..=MAX_MESSAGE);
    path.and(body).finish()?;
    let job = state
        .store
        .backfill()
        .fail(id, &message, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

async fn complete(State(state): State<AppState>, path: Path) -> ApiResult<Json<JobState>> {
    let job = state
        .store
        .backfill()
        .complete(job_id(path)?, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

async fn rewind(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<JobState>> {
    let id = path.uuid("job_id");
    let from = body.int("from_block", 0..=MAX_BLOCK);
    path.and(body).finish()?;
    let job = state.store.backfill().rewind(id, from).await?;
    Ok(Json((&job).into()))
}
