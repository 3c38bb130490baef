//! The calls of workers that hold a lease.

use axum::{Json, extract::State};
use utxoiq_store::{
    backfill::{BlockRange, ClaimKey, MAX_BLOCK},
    token::Scope,
};

use super::{
    MAX_MESSAGE, blocks,
    wire::{
        CheckpointAnswer, CheckpointRequest, ClaimAnswer, ClaimPath, ClaimRequest, Epoch,
        HeardAnswer, JobPath, Record, RecordError, VerifyRequest,
    },
};
use crate::{
    AppState,
    error::ApiResult,
    input::{Body, Input, Path},
    routes::{Call, Routes},
};

fn call(path: &'static str, summary: &'static str) -> Call {
    call_of_anyone(path, summary)
        .refuses(
            409,
            "stale_lease",
            "the claim is not the caller's any more; nothing was changed",
        )
        .refuses(
            409,
            "job_final",
            "the job has ended for good; nothing was changed",
        )
}

/// A call that a claim which is gone does not refuse.
fn call_of_anyone(path: &'static str, summary: &'static str) -> Call {
    Call::post(path, Scope::BackfillWrite, summary)
        .path_fields::<ClaimPath>()
        .refuses(404, "job_not_found", "there is no such job")
}

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Call::post("/api/v1/monitoring/backfill/{job_id}/claim", Scope::BackfillWrite, "Claim a sub-range of a job")
                .describe(
                    "Answers the lowest free sub-range with an epoch and a lease; every write to it carries both the \
                     claim and the epoch. Send a heartbeat about three times a lease.",
                )
                .path_fields::<JobPath>()
                .body::<ClaimRequest>()
                .answers::<ClaimAnswer>("the job, and a claim where one is free")
                .refuses(404, "job_not_found", "there is no such job")
                .refuses(409, "job_final", "the job was cancelled")
                .refuses(409, "not_running", "the job is paused or has failed")
                .refuses(409, "implicit_worker", "a worker without a lease is at the job")
                .refuses(409, "too_many_claims", "the job has as many claims as it may have"),
            claim,
        )
        .add(
            call("/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/record", "Record finished blocks")
                .describe("Renews the lease. May be sent again: finished blocks stay finished.")
                .body::<Record>()
                .answers::<HeardAnswer>("how the job and the claim stand")
                .refuses(400, "invalid_range", "`end_block` is less than `start_block`")
                .refuses(400, "outside_claim", "the blocks lie outside of the claim"),
            record,
        )
        .add(
            call("/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/heartbeat", "Renew a claim's lease")
                .body::<Epoch>()
                .answers::<HeardAnswer>("how the job and the claim stand"),
            heartbeat,
        )
        .add(
            call("/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/error", "Record the error of a chunk")
                .body::<RecordError>()
                .answers::<HeardAnswer>("how the job and the claim stand")
                .refuses(400, "invalid_range", "`end_block` is less than `start_block`")
                .refuses(400, "outside_claim", "the blocks lie outside of the claim"),
            error,
        )
        .add(
            call("/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/checkpoint", "Record the hash of a finished block")
                .describe("Another hash than before at this height means a reorganised chain: the job is rewound.")
                .body::<CheckpointRequest>()
                .answers::<CheckpointAnswer>("whether the job was rewound, and what to compare next")
                .refuses(400, "outside_claim", "the block lies outside of the claim")
                .refuses(409, "not_running", "the job has failed"),
            checkpoint,
        )
        .add(
            call_of_anyone("/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/release", "Give a claim back")
                .describe("What is finished stays so; the rest is free at once. A claim that is gone changes nothing.")
                .body::<Epoch>()
                .answers::<super::JobState>("the job"),
            release,
        )
        .add(
            Call::post("/api/v1/monitoring/backfill/{job_id}/verify", Scope::BackfillWrite, "Compare a block hash with a checkpoint")
                .describe("What a worker does before it goes on with a job; another hash rewinds the job.")
                .path_fields::<JobPath>()
                .body::<VerifyRequest>()
                .answers::<CheckpointAnswer>("whether the job was rewound, and what to compare next")
                .refuses(404, "job_not_found", "there is no such job")
                .refuses(404, "no_checkpoint", "there is no checkpoint at this block")
                .refuses(409, "job_final", "the job has ended for good")
                .refuses(409, "not_running", "the job has failed"),
            verify,
        )
}

/// The claim that a request names; to be used after `finish`.
fn key(path: &mut Input, body: &mut Input) -> ClaimKey {
    ClaimKey {
        job_id: path.uuid("job_id"),
        claim_id: path.uuid("claim_id"),
        epoch: body.int("epoch", 0..=i64::MAX),
    }
}

async fn claim(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<ClaimAnswer>> {
    let id = path.uuid("job_id");
    let worker = body.text("worker", 1..=200);
    let max_blocks = body.int("max_blocks", 1..=i64::MAX);
    path.and(body).finish()?;
    let claimed = state
        .store
        .backfill()
        .claim(id, &worker, max_blocks, state.store.now())
        .await?;
    Ok(Json((&claimed).into()))
}

async fn record(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<HeardAnswer>> {
    let key = key(&mut path, &mut body);
    let (first, last) = blocks(&mut body);
    path.and(body).finish()?;
    let blocks = BlockRange::inclusive(first, last)?;
    let heard = state
        .store
        .backfill()
        .record(key, blocks, state.store.now())
        .await?;
    Ok(Json((&heard).into()))
}

async fn heartbeat(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<HeardAnswer>> {
    let key = key(&mut path, &mut body);
    path.and(body).finish()?;
    let heard = state
        .store
        .backfill()
        .heartbeat(key, state.store.now())
        .await?;
    Ok(Json((&heard).into()))
}

async fn error(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<HeardAnswer>> {
    let key = key(&mut path, &mut body);
    let (first, last) = blocks(&mut body);
    let attempted = body.int("attempted", 1..=i64::from(i32::MAX));
    let message = body.text("message", 0..=MAX_MESSAGE);
    path.and(body).finish()?;
    let blocks = BlockRange::inclusive(first, last)?;
    let attempted = i32::try_from(attempted).unwrap_or(i32::MAX);
    let heard = state
        .store
        .backfill()
        .record_error(key, blocks, attempted, &message, state.store.now())
        .await?;
    Ok(Json((&heard).into()))
}

async fn checkpoint(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<CheckpointAnswer>> {
    let key = key(&mut path, &mut body);
    let block = body.int("block", 0..=MAX_BLOCK);
    let hash = body.text("block_hash", 1..=128);
    path.and(body).finish()?;
    let outcome = state
        .store
        .backfill()
        .checkpoint(key, block, &hash, state.store.now())
        .await?;
    Ok(Json((&outcome).into()))
}

async fn release(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<super::JobState>> {
    let key = key(&mut path, &mut body);
    path.and(body).finish()?;
    let job = state
        .store
        .backfill()
        .release(key, state.store.now())
        .await?;
    Ok(Json((&job).into()))
}

async fn verify(
    State(state): State<AppState>,
    Path(mut path): Path,
    Body(mut body): Body,
) -> ApiResult<Json<CheckpointAnswer>> {
    let id = path.uuid("job_id");
    let block = body.int("block", 0..=MAX_BLOCK);
    let hash = body.text("block_hash", 1..=128);
    path.and(body).finish()?;
    let outcome = state
        .store
        .backfill()
        .verify_checkpoint(id, block, &hash, state.store.now())
        .await?;
    Ok(Json((&outcome).into()))
}
