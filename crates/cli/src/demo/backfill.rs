//! Backfill jobs: campaigns of several types that went through the chain, with what goes wrong in them.

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng, RngExt as _, seq::IndexedRandom as _};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::Json;
use utxoiq_store::db;
use uuid::Uuid;

use super::{Demo, Written, chain::height, queries};

/// The types, the length of one of their jobs in blocks, and the days between two of them.
const TYPES: [(&str, i64, i64); 6] = [
    ("blocks", 4_320, 30),
    ("transactions", 3_024, 21),
    ("address_clusters", 8_640, 60),
    ("fee_rates", 4_320, 30),
    ("utxo_age_bands", 12_960, 90),
    ("inscriptions", 2_016, 14),
];

const PEOPLE: [&str; 4] = [
    "token: pipeline",
    "token: airflow",
    "cli: mara",
    "token: backfill-cron",
];

const WORKERS: [&str; 4] = [
    "backfill-7c9f-0",
    "backfill-7c9f-1",
    "backfill-7c9f-2",
    "backfill-batch-0",
];

const FAILURES: [&str; 7] = [
    "bitcoind answered 503 for 30 minutes: work queue depth exceeded",
    "block {block}: transaction 1842 spends an output that is not known yet (index behind the tip)",
    "RPC timeout after 60 s at getblock {block} verbosity 3",
    "worker lost: nothing was heard of it for 15 minutes",
    "out of memory while clustering block {block} (limit 4 GiB)",
    "block {block} is not in the best chain any more",
    "upstream index returned a truncated block at height {block}",
];

const HICCUPS: [&str; 4] = [
    "RPC timeout after 60 s",
    "connection reset by bitcoind",
    "HTTP 503: work queue depth exceeded",
    "deadline of 120 s exceeded while fetching previous outputs",
];

/// The most blocks that a worker claims.
const CLAIM: i64 = 500;

/// How long the claims of jobs that run last: nobody works on them, and they are to be looked at.
const LOOKED_AT: TimeDelta = TimeDelta::days(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Completed,
    /// Failed once, and was resumed.
    Resumed,
    Failed,
    Cancelled,
    Paused,
    Running,
}

#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names)] // as the columns are named
struct Job {
    id: Uuid,
    job_type: &'static str,
    start_block: i64,
    end_block: i64,
    status: &'static str,
    covered: String,
    attempt: i32,
    attempt_started_at: DateTime<Utc>,
    attempt_covered_blocks: i64,
    claim_epoch: i64,
    external_id: Option<String>,
    created_by: &'static str,
    error_message: Option<String>,
    paused_by: Option<&'static str>,
    started_at: DateTime<Utc>,
    progressed_at: DateTime<Utc>,
    heard_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

#[derive(Default)]
struct Rows {
    jobs: Vec<Job>,
    attempts: Vec<serde_json::Value>,
    claims: Vec<serde_json::Value>,
    errors: Vec<serde_json::Value>,
    checkpoints: Vec<serde_json::Value>,
}

/// Writes them.
pub async fn lay(demo: &Demo, written: &mut Written) -> anyhow::Result<()> {
    let step = demo.progress.begin("backfill jobs", 5);
    let mut random = demo.random(2);
    let mut rows = Rows::default();
    for (number, (job_type, blocks, every)) in TYPES.into_iter().enumerate() {
        let campaign = Campaign {
            job_type,
            blocks,
            every,
            last: last_fate(number),
        };
        campaign.lay(demo, &mut random, &mut rows);
    }
    let connection = demo.store.pool().get().await?;
    db::execute(&connection, &queries::INSERT_JOBS, &[&Json(&rows.jobs)]).await?;
    step.done("");
    for (statement, rows) in [
        (&queries::INSERT_ATTEMPTS, &rows.attempts),
        (&queries::INSERT_CLAIMS, &rows.claims),
        (&queries::INSERT_ERRORS, &rows.errors),
        (&queries::INSERT_CHECKPOINTS, &rows.checkpoints),
    ] {
        db::execute(&connection, statement, &[&Json(rows)]).await?;
        step.done("");
    }
    written.backfill_jobs = rows.jobs.len() as u64;
    step.finish(format_args!("{} of {} types", rows.jobs.len(), TYPES.len()));
    Ok(())
}

/// How the newest job of a type stands: each way once or twice.
fn last_fate(number: usize) -> Fate {
    [
        Fate::Running,
        Fate::Running,
        Fate::Paused,
        Fate::Failed,
        Fate::Cancelled,
        Fate::Completed,
    ][number % 6]
}

struct Campaign {
    job_type: &'static str,
    blocks: i64,
    every: i64,
    last: Fate,
}

impl Campaign {
    fn lay(&self, demo: &Demo, random: &mut impl Rng, rows: &mut Rows) {
        let count = (demo.days / self.every).max(1);
        // The newest job began some hours ago, and ends below the tip.
        let end = height(demo.as_of) - 12;
        for number in 0..=count {
            let back = count - number;
            let end_block = end - back * self.blocks;
            let start_block = end_block - self.blocks + 1;
            let hours = random.random_range(3..40);
            let started_at = demo.as_of
                - TimeDelta::days(back * self.every)
                - TimeDelta::minutes(hours * 60 + random.random_range(0..60));
            let fate = if back == 0 {
                self.last
            } else {
                match random.random_range(0..100) {
                    0..72 => Fate::Completed,
                    72..88 => Fate::Resumed,
                    88..96 => Fate::Failed,
                    _ => Fate::Cancelled,
                }
            };
            let length = TimeDelta::minutes(random.random_range(70..hours * 60));
            let life = Life {
                job_type: self.job_type,
                start_block,
                end_block,
                started_at,
                until: if fate == Fate::Running {
                    demo.as_of
                } else {
                    started_at + length
                },
                fate,
                as_of: demo.as_of,
            };
            life.lay(random, rows);
        }
    }
}

/// One job.
struct Life {
    job_type: &'static str,
    start_block: i64,
    end_block: i64,
    started_at: DateTime<Utc>,
    until: DateTime<Utc>,
    fate: Fate,
    as_of: DateTime<Utc>,
}

impl Life {
    fn lay(&self, random: &mut impl Rng, rows: &mut Rows) {
        let id = uuid(random, self.started_at);
        let blocks = self.end_block - self.start_block + 1;
        let middle = self.started_at + (self.until - self.started_at) / 2;
        let first_done = blocks * random.random_range(20..60) / 100;
        let was_resumed = self.fate == Fate::Resumed;
        let covered = self.covered(random);
        let message =
            matches!(self.fate, Fate::Failed | Fate::Resumed).then(|| self.failure(random));
        rows.jobs.push(Job {
            id,
            job_type: self.job_type,
            start_block: self.start_block,
            end_block: self.end_block,
            status: self.status(),
            covered: multirange(&covered),
            attempt: if was_resumed { 2 } else { 1 },
            attempt_started_at: if was_resumed { middle } else { self.started_at },
            attempt_covered_blocks: if was_resumed { first_done } else { 0 },
            claim_epoch: blocks / CLAIM + 3,
            external_id: None,
            created_by: PEOPLE.choose(random).copied().unwrap_or(PEOPLE[0]),
            error_message: message.clone().filter(|_| self.fate == Fate::Failed),
            paused_by: (self.fate == Fate::Paused).then_some("operator"),
            started_at: self.started_at,
            progressed_at: self.until,
            heard_at: self.until,
            ended_at: self.is_over().then_some(self.until),
        });
        self.lay_attempts(
            id,
            (was_resumed, middle, first_done),
            message.as_deref(),
            rows,
        );
        self.lay_errors(id, random, rows);
        if self.fate == Fate::Running {
            self.lay_claims(id, &covered, random, rows);
        }
        let last = covered.last().map_or(self.start_block, |range| range.1 - 1);
        rows.checkpoints.push(json!({
            "job_id": id, "block": last, "block_hash": hash(random), "recorded_at": self.until,
        }));
    }

    fn status(&self) -> &'static str {
        match self.fate {
            Fate::Completed | Fate::Resumed => "completed",
            Fate::Failed => "failed",
            Fate::Cancelled => "cancelled",
            Fate::Paused => "paused",
            Fate::Running => "running",
        }
    }

    fn is_over(&self) -> bool {
        !matches!(self.fate, Fate::Paused | Fate::Running)
    }

    /// What is done: all of it, or some with a hole where a worker was lost. Half-open.
    fn covered(&self, random: &mut impl Rng) -> Vec<(i64, i64)> {
        let (start, end) = (self.start_block, self.end_block + 1);
        if matches!(self.fate, Fate::Completed | Fate::Resumed) {
            return vec![(start, end)];
        }
        let at = |percent: i64| start + (end - start) * percent / 100;
        let first = random.random_range(18..34);
        let hole = random.random_range(3..9);
        let second = first + hole + random.random_range(12..30);
        vec![(start, at(first)), (at(first + hole), at(second))]
    }

    fn failure(&self, random: &mut impl Rng) -> String {
        let block = random.random_range(self.start_block..=self.end_block);
        let message = FAILURES.choose(random).copied().unwrap_or(FAILURES[0]);
        message.replace("{block}", &block.to_string())
    }

    fn lay_attempts(
        &self,
        id: Uuid,
        (was_resumed, middle, first_done): (bool, DateTime<Utc>, i64),
        message: Option<&str>,
        rows: &mut Rows,
    ) {
        let mut attempt = |number: i32,
                           started_at,
                           covered_blocks: i64,
                           ended_at: Option<DateTime<Utc>>,
                           outcome: Option<&str>,
                           message| {
            rows.attempts.push(json!({
                "job_id": id, "attempt": number, "started_at": started_at, "covered_blocks": covered_blocks,
                "ended_at": ended_at, "outcome": outcome, "error_message": message,
            }));
        };
        let ended_at = self.is_over().then_some(self.until);
        let outcome = self.is_over().then(|| self.status());
        if was_resumed {
            let stopped = middle - TimeDelta::minutes(7);
            attempt(
                1,
                self.started_at,
                0,
                Some(stopped),
                Some("failed"),
                message,
            );
            attempt(2, middle, first_done, ended_at, outcome, None);
        } else {
            attempt(1, self.started_at, 0, ended_at, outcome, message);
        }
    }

    fn lay_errors(&self, id: Uuid, random: &mut impl Rng, rows: &mut Rows) {
        for _ in 0..random.random_range(0..4) {
            let from = random.random_range(self.start_block..=self.end_block);
            let to = (from + 50).min(self.end_block + 1);
            rows.errors.push(json!({
                "job_id": id, "attempt": 1, "blocks": format!("[{from},{to})"),
                "worker": WORKERS.choose(random), "try": random.random_range(1..=3),
                "message": HICCUPS.choose(random),
                "occurred_at": self.started_at + (self.until - self.started_at) * random.random_range(1..9) / 10,
            }));
        }
    }

    /// Two workers are at it, behind what is done.
    fn lay_claims(&self, id: Uuid, covered: &[(i64, i64)], random: &mut impl Rng, rows: &mut Rows) {
        let begin = covered.last().map_or(self.start_block, |range| range.1);
        let mut from = begin;
        for (number, worker) in WORKERS.iter().take(2).enumerate() {
            let to = (from + CLAIM).min(self.end_block + 1);
            let done = from + (to - from) * random.random_range(20..80) / 100;
            if done <= from {
                break;
            }
            rows.claims.push(json!({
                "id": uuid(random, self.as_of), "job_id": id, "attempt": 1, "epoch": number + 1, "worker": worker,
                "blocks": format!("[{from},{to})"), "done": format!("{{[{from},{done})}}"),
                "claimed_at": self.as_of - TimeDelta::minutes(9), "progressed_at": self.as_of - TimeDelta::seconds(4),
                "heartbeat_at": self.as_of, "lease_expires_at": self.as_of + LOOKED_AT,
            }));
            from = to;
        }
    }
}

fn multirange(ranges: &[(i64, i64)]) -> String {
    let ranges: Vec<String> = ranges
        .iter()
        .map(|(from, to)| format!("[{from},{to})"))
        .collect();
    format!("{{{}}}", ranges.join(","))
}

/// An id as one of that moment has, from the seed.
pub fn uuid(random: &mut impl Rng, at: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random.random()).into_uuid()
}

/// A block's hash: with as many zeros in front as the difficulty asks for.
fn hash(random: &mut impl Rng) -> String {
    format!(
        "{:0>64}",
        format!(
            "{:032x}{:013x}",
            random.random::<u128>(),
            random.random::<u64>() >> 12
        )
    )
}
