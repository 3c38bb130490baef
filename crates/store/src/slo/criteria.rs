//! The 40 criteria: what each asks for, which page and call show its evidence, and who judges it.

use super::{Verdict, evidence::Gathered, judge};

/// A criterion, as it was agreed.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// `C1.1` … `C8.5`.
    pub id: &'static str,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// What it asks for.
    pub target: &'static str,
    /// The page of the dashboard that shows its evidence.
    pub page: &'static str,
    /// The call that shows it.
    pub call: &'static str,
    /// Judges it.
    pub(super) judge: fn(&Gathered) -> Verdict,
}

impl Definition {
    /// Its chapter, from 1 to 8.
    pub fn chapter(&self) -> usize {
        let digit = self.id.as_bytes().get(1).copied().unwrap_or(b'0');
        usize::from(digit.saturating_sub(b'0'))
    }

    /// Its chapter's name.
    pub fn chapter_title(&self) -> &'static str {
        CHAPTERS
            .get(self.chapter().wrapping_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

/// The chapters' names.
pub const CHAPTERS: [&str; 8] = [
    "Backfill jobs survive restarts and can be resumed",
    "User feedback is kept, searched and summarised",
    "Metrics are a time series",
    "Redis cache",
    "Migrations",
    "Connection pool",
    "Retention",
    "Backups",
];

/// The criterion of an id.
pub fn of(id: &str) -> Option<&'static Definition> {
    CRITERIA.iter().find(|one| one.id.eq_ignore_ascii_case(id))
}

const fn row(
    id: &'static str,
    title: &'static str,
    target: &'static str,
    [page, call]: [&'static str; 2],
    judge: fn(&Gathered) -> Verdict,
) -> Definition {
    Definition {
        id,
        title,
        target,
        page,
        call,
        judge,
    }
}

const BACKFILL: [&str; 2] = ["/dashboard/backfill", "/api/v1/monitoring/backfill/status"];
const FEEDBACK: [&str; 2] = ["/dashboard/feedback", "/api/v1/feedback/top"];
const METRICS: [&str; 2] = ["/dashboard/metrics", "/api/v1/monitoring/metrics/services"];
const CACHE: [&str; 2] = ["/dashboard/cache", "/metrics"];
const PROBED: [&str; 2] = ["/dashboard/criteria", "/api/v1/slo"];
const POOL: [&str; 2] = ["/dashboard/pool", "/api/v1/monitoring/database/pool"];
const STORAGE: [&str; 2] = ["/dashboard/storage", "/api/v1/monitoring/archives"];
const SCHEDULE: [&str; 2] = ["/dashboard/schedule", "/api/v1/monitoring/schedule"];
const AUDIT: [&str; 2] = ["/dashboard/audit", "/api/v1/monitoring/audit"];
const BACKUPS: [&str; 2] = ["/dashboard/backups", "/api/v1/monitoring/backups"];
const ALERTS: [&str; 2] = ["/dashboard/backups", "/api/v1/monitoring/alerts"];

/// All of them, in order.
#[rustfmt::skip] // a row is a line
pub static CRITERIA: [Definition; 40] = [
    row("C1.1", "Starting a job", "starting a job creates a backfill_jobs record with status running", BACKFILL, judge::backfill::starting),
    row("C1.2", "Progress in time", "progress updates reach progress_percentage and estimated_completion within 5 s", BACKFILL, judge::backfill::progress),
    row("C1.3", "Completing a job", "completing sets completed and the completion timestamp", BACKFILL, judge::backfill::completing),
    row("C1.4", "Failing a job", "failing sets failed and stores the error message", BACKFILL, judge::backfill::failing),
    row("C1.5", "Reading a job's status", "the most recent job status is read from the database within 100 ms", BACKFILL, judge::backfill::reading),
    row("C2.1", "Storing a rating", "a rating is stored in insight_feedback within 2 s", FEEDBACK, judge::feedback::rating),
    row("C2.2", "Storing a comment", "a comment is stored with timestamp and user id", FEEDBACK, judge::feedback::comment),
    row("C2.3", "Storing a flag", "a flag is stored with its type and reason", FEEDBACK, judge::feedback::flag),
    row("C2.4", "Statistics in time", "feedback statistics of an insight within 100 ms", FEEDBACK, judge::feedback::statistics),
    row("C2.5", "Searching feedback", "query feedback by user, insight, date range and rating value", FEEDBACK, judge::feedback::search),
    row("C3.1", "Storing metrics", "reported metrics are stored in system_metrics with a timestamp", METRICS, judge::metrics::storing),
    row("C3.2", "Partitions by date", "system_metrics is partitioned by date", METRICS, judge::metrics::partitions),
    row("C3.3", "Reading a day", "a 24-hour period is read within 200 ms", METRICS, judge::metrics::reading),
    row("C3.4", "Aggregation", "hourly, daily and weekly aggregation", METRICS, judge::metrics::aggregation),
    row("C3.5", "Archiving metrics", "metrics older than 90 days are archived to cold storage automatically", STORAGE, judge::metrics::archiving),
    row("C4.1", "Redis first", "frequently read data is looked up in Redis before the database", CACHE, judge::cache::redis_first),
    row("C4.2", "Hit rate", "hit rate of at least 90 % for feedback statistics", CACHE, judge::cache::hit_rate),
    row("C4.3", "Invalidation", "a change in the database invalidates the cache entry within 1 s", CACHE, judge::cache::invalidation),
    row("C4.4", "Times to live", "TTLs by volatility: 5 minutes for metrics, 1 hour for feedback statistics", CACHE, judge::cache::ttls),
    row("C4.5", "Without Redis", "with Redis away, the database answers, without interruption", CACHE, judge::cache::without_redis),
    row("C5.1", "Applied migrations", "a migrations table tracks what was applied", PROBED, judge::migrations::table),
    row("C5.2", "New migrations", "a new migration gets a sequential number and a timestamp", PROBED, judge::migrations::new_ones),
    row("C5.3", "Pending migrations", "pending migrations are applied in order at deployment", PROBED, judge::migrations::pending),
    row("C5.4", "Rolling back", "the most recent migration can be rolled back", PROBED, judge::migrations::rollback),
    row("C5.5", "Never twice", "the same migration is never applied twice", PROBED, judge::migrations::once),
    row("C6.1", "Size of the pool", "between 5 and 20 connections, by load", POOL, judge::pool::size),
    row("C6.2", "Reusing a connection", "an existing connection is reused within 10 ms", POOL, judge::pool::reuse),
    row("C6.3", "Idle connections", "idle connections are closed after 5 minutes", POOL, judge::pool::idle),
    row("C6.4", "Retries", "connection failures are retried up to 3 times with exponential backoff", POOL, judge::pool::retries),
    row("C6.5", "The pool's log", "active, idle and waiting are logged every 60 s", POOL, judge::pool::log),
    row("C7.1", "Archiving jobs", "backfill jobs older than 180 days are archived to cold storage", STORAGE, judge::retention::jobs),
    row("C7.2", "Archiving feedback", "feedback older than 2 years is deleted after it was archived", STORAGE, judge::retention::feedback),
    row("C7.3", "Life of metrics", "metrics: 90 days hot, then 1 year cold, gone on day 455", STORAGE, judge::retention::metrics),
    row("C7.4", "Retention at 02:00", "policies run daily at 02:00 UTC", SCHEDULE, judge::retention::daily),
    row("C7.5", "Audit", "every archival and deletion is logged for audit", AUDIT, judge::retention::audited),
    row("C8.1", "Backup at 01:00", "a full backup daily at 01:00 UTC", BACKUPS, judge::backups::daily),
    row("C8.2", "Backups kept", "7 daily and 4 weekly backups are kept", BACKUPS, judge::backups::kept),
    row("C8.3", "Test restore", "a weekly test restore proves a backup's integrity", BACKUPS, judge::backups::proved),
    row("C8.4", "Another region", "backups are stored in another region", BACKUPS, judge::backups::region),
    row("C8.5", "Alerts of failures", "administrators are alerted within 5 minutes when a backup fails", ALERTS, judge::backups::alerted),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forty_are_there_once_in_order() {
        let ids: Vec<String> = CRITERIA.iter().map(|one| one.id.to_owned()).collect();
        let all: Vec<String> = (1..=8)
            .flat_map(|chapter| (1..=5).map(move |number| format!("C{chapter}.{number}")))
            .collect();
        assert_eq!(ids, all);
        for one in &CRITERIA {
            assert!(!one.chapter_title().is_empty(), "{}", one.id);
            assert!(
                one.page.starts_with("/dashboard/") && one.call.starts_with('/'),
                "{}",
                one.id
            );
        }
    }

    #[test]
    fn each_is_judged_by_a_function_of_its_own() {
        let judges: std::collections::BTreeSet<usize> =
            CRITERIA.iter().map(|one| one.judge as usize).collect();
        assert_eq!(judges.len(), CRITERIA.len());
    }
}
