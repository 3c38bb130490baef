//! Backfill jobs (C1), and reading them without Redis (C4.5).

use chrono::{DateTime, TimeDelta, Utc};

use super::{Seen, Trial, expect};
use crate::{
    Store,
    backfill::{BlockRange, Job, NewJob, Progress, Status},
};

pub(super) async fn try_jobs(trial: &mut Trial<'_>, store: &Store, now: DateTime<Utc>) {
    let job = trial
        .step("C1.1", "start a job", started(store, "probe", now))
        .await;
    if let Some(job) = &job {
        trial
            .step("C1.3", "complete it", completed(store, job, now))
            .await;
    }
    let other = started(store, "probe-failing", now).await.ok();
    if let Some((_, other)) = &other {
        trial
            .step("C1.4", "fail a job", failed(store, other, now))
            .await;
    }
    if let Some(job) = &job {
        trial
            .step("C4.5", "read a job without Redis", cached(store, job))
            .await;
    }
}

/// What the database has of a job.
async fn stored(store: &Store, job: &Job) -> Seen<Job> {
    let stored = store.backfill().get(job.id).await?;
    stored.ok_or_else(|| "there is no row in backfill_jobs".into())
}

async fn started(store: &Store, kind: &str, now: DateTime<Utc>) -> Seen<(String, Job)> {
    let new = NewJob {
        job_type: kind.to_owned(),
        blocks: BlockRange {
            start: 100,
            end: 200,
        },
        created_by: Some("probe".to_owned()),
    };
    let job = store.backfill().start(&new, now).await?;
    let stored = stored(store, &job).await?;
    expect("its status", &stored.status, &Status::Running)?;
    expect("its start", &stored.started_at, &now)?;
    Ok((
        format!(
            "its row in backfill_jobs has the status {}",
            stored.status.as_str()
        ),
        stored,
    ))
}

async fn completed(store: &Store, job: &Job, now: DateTime<Utc>) -> Seen<(String, ())> {
    let (half, at) = (now + TimeDelta::seconds(1), now + TimeDelta::seconds(2));
    let says = |block| Progress {
        current_block: Some(block),
        ..Progress::default()
    };
    store.backfill().report(job.id, &says(150), half).await?;
    let halfway = stored(store, job).await?;
    expect(
        "its percentage",
        &halfway.progress_percentage.to_string(),
        &"50".to_owned(),
    )?;
    if halfway.estimated_completion.is_none() {
        return Err("half done, it has no estimated completion".into());
    }
    if store.backfill().complete(job.id, half).await.is_ok() {
        return Err("half done, it could be completed".into());
    }
    let last = Progress {
        status: Some(Status::Completed),
        ..says(199)
    };
    store.backfill().report(job.id, &last, at).await?;
    let done = stored(store, job).await?;
    expect("its status", &done.status, &Status::Completed)?;
    expect("its completion time", &done.completed_at, &Some(at))?;
    Ok(("completed, with its time".to_owned(), ()))
}

async fn failed(store: &Store, job: &Job, now: DateTime<Utc>) -> Seen<(String, ())> {
    let message = "the probe says so";
    store.backfill().fail(job.id, message, now).await?;
    let stored = stored(store, job).await?;
    expect("its status", &stored.status, &Status::Failed)?;
    expect(
        "its error message",
        &stored.error_message.as_deref(),
        &Some(message),
    )?;
    Ok(("failed, with its message".to_owned(), ()))
}

async fn cached(store: &Store, job: &Job) -> Seen<(String, ())> {
    let read = store.backfill().recent(job.id).await?;
    let is_there = read.value.as_ref().is_some_and(|found| found.id == job.id);
    if !is_there {
        return Err("the job was not found".into());
    }
    Ok(("the database answered".to_owned(), ()))
}
