//! Jobs for people.

use crate::output::plain;
use chrono::{DateTime, SecondsFormat, Utc};
use utxoiq_store_server::api::backfill::wire::{DetailsAnswer, Gap, Job, JobState, Range};

/// How many rows of a long list are shown; `--json` has all.
const SHOWN: usize = 50;

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn maybe_time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), time)
}

/// A table of jobs.
pub fn jobs(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let mut text = format!(
        "{:<36}  {:<12}  {:<9}  {:>7}  {:<23}  {:<20}  {}\n",
        "ID", "TYPE", "STATUS", "DONE", "BLOCKS", "STARTED", "EXPECTED"
    );
    for job in jobs {
        text.push_str(&format!(
            "{:<36}  {:<12}  {:<9}  {:>6}%  {:<23}  {:<20}  {}\n",
            job.id.to_string(),
            plain(&job.job_type),
            job.status,
            job.progress_percentage,
            format!("{}-{}", job.start_block, job.end_block),
            time(job.started_at),
            maybe_time(job.estimated_completion),
        ));
    }
    text
}

/// One job.
pub fn job(state: &JobState) -> String {
    let job = &state.job;
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("type", plain(&job.job_type)),
        ("status", state.state.clone()),
        (
            "blocks",
            format!(
                "{}-{} ({})",
                job.start_block, job.end_block, state.total_blocks
            ),
        ),
        (
            "done",
            format!(
                "{} ({}%), all below {}",
                state.covered_blocks, job.progress_percentage, job.current_block
            ),
        ),
        ("attempt", state.attempt.to_string()),
        (
            "started",
            format!("{}{}", time(job.started_at), by(job.created_by.as_deref())),
        ),
        ("last heard", time(state.heard_at)),
    ];
    if let Some(who) = &state.paused_by {
        lines.push(("paused by", who.clone()));
    }
    if let Some(at) = job.estimated_completion {
        lines.push(("expected", time(at)));
    }
    if let Some(at) = state.ended_at {
        lines.push(("ended", time(at)));
    }
    if let Some(error) = &job.error_message {
        lines.push(("error", plain(error)));
    }
    let mut text = String::new();
    for (name, value) in lines {
        text.push_str(&format!("{name:<11} {value}\n"));
    }
    text
}

fn by(who: Option<&str>) -> String {
    who.map(|who| format!(" by {}", plain(who)))
        .unwrap_or_default()
}

/// What is missing.
pub fn gaps(gaps: &[Gap]) -> String {
    if gaps.is_empty() {
        return "nothing is missing\n".to_owned();
    }
    let blocks: i64 = gaps
        .iter()
        .map(|gap| gap.end_block - gap.start_block + 1)
        .sum();
    let mut text = format!("missing: {blocks} blocks in {} ranges\n", gaps.len());
    for gap in gaps.iter().take(SHOWN) {
        let holder = match (&gap.claimed_by, gap.lease_expires_at) {
            (Some(worker), Some(until)) => format!("  at {} until {}", plain(worker), time(until)),
            _ => String::new(),
        };
        text.push_str(&format!(
            "  {}-{}{holder}\n",
            gap.start_block, gap.end_block
        ));
    }
    more(&mut text, gaps.len());
    text
}

fn more(text: &mut String, count: usize) {
    if count > SHOWN {
        text.push_str(&format!("  and {} more; --json lists all\n", count - SHOWN));
    }
}

/// A job with its history.
pub fn details(details: &DetailsAnswer) -> String {
    let mut text = job(&details.job);
    let range = |range: &Range| format!("{}-{}", range.start_block, range.end_block);
    if details.attempts.len() > 1 {
        text.push_str("\nattempts\n");
        for attempt in &details.attempts {
            text.push_str(&format!(
                "  {}  {} to {}  {}  {}\n",
                attempt.attempt,
                time(attempt.started_at),
                maybe_time(attempt.ended_at),
                attempt.outcome.as_deref().unwrap_or("under way"),
                plain(attempt.error_message.as_deref().unwrap_or_default()),
            ));
        }
    }
    if !details.errors.is_empty() {
        text.push_str("\nerrors, newest first\n");
        for error in details.errors.iter().take(SHOWN) {
            text.push_str(&format!(
                "  {}  {}  try {}  {}: {}\n",
                time(error.occurred_at),
                error.blocks.as_ref().map_or_else(|| "-".to_owned(), range),
                error.attempted,
                plain(&error.worker),
                plain(error.message.lines().next().unwrap_or_default()),
            ));
        }
        more(&mut text, details.errors.len());
    }
    text.push('\n');
    text.push_str(&gaps(&details.missing));
    text
}
