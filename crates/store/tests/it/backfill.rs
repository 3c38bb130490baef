//! Backfill jobs against a real database.

mod cached;
mod claims;
mod implicit;
mod lifecycle;
mod reorganisation;
mod worker;

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::{
    Store,
    backfill::{BlockRange, Claim, Gap, Job, NewJob},
};
use uuid::Uuid;

use crate::support::TestDb;

/// A moment to count from.
pub fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).unwrap()
}

/// So many seconds after it.
pub fn at(seconds: i64) -> DateTime<Utc> {
    noon() + TimeDelta::seconds(seconds)
}

pub fn range(first: i64, last: i64) -> BlockRange {
    BlockRange::inclusive(first, last).unwrap()
}

pub fn new_job(job_type: &str, first: i64, last: i64) -> NewJob {
    NewJob {
        job_type: job_type.to_owned(),
        blocks: range(first, last),
        created_by: Some("tester".to_owned()),
    }
}

pub async fn started(store: &Store, first: i64, last: i64) -> Job {
    store
        .backfill()
        .start(&new_job("blocks", first, last), noon())
        .await
        .unwrap()
}

pub async fn claimed(
    store: &Store,
    id: Uuid,
    worker: &str,
    max_blocks: i64,
    now: DateTime<Utc>,
) -> Claim {
    store
        .backfill()
        .claim(id, worker, max_blocks, now)
        .await
        .unwrap()
        .claim
        .expect("a free sub-range")
}

pub fn ranges(gaps: &[Gap]) -> Vec<(i64, i64)> {
    gaps.iter()
        .map(|gap| (gap.blocks.start, gap.blocks.last()))
        .collect()
}

pub async fn store() -> (TestDb, Store) {
    let db = TestDb::new().await;
    let store = db.store().await;
    (db, store)
}
