//! The table: each call with its scope, and whose data it is about.

use utxoiq_store::token::Scope;

/// Whose data a call answers about or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// No user's: jobs, metrics, sums, the service itself.
    Nobodys,
    /// The caller's own alone; another user's gets 403, or is not in the answer.
    Own,
    /// Everyone's, by the scope.
    Everyones,
}

/// A call.
#[derive(Debug)]
pub struct Row {
    pub method: &'static str,
    pub path: &'static str,
    /// What it needs; any valid token where there is none.
    pub scope: Option<Scope>,
    pub whose: Whose,
}

const fn row(method: &'static str, path: &'static str, scope: Option<Scope>, whose: Whose) -> Row {
    Row {
        method,
        path,
        scope,
        whose,
    }
}

impl Row {
    /// The row as the documentation has it.
    pub fn documented(&self) -> String {
        let scope = self
            .scope
            .map_or_else(|| "any token".to_owned(), |scope| format!("`{scope}`"));
        let whose = match self.whose {
            Whose::Nobodys => "–",
            Whose::Own => "one's own",
            Whose::Everyones => "everyone's",
        };
        let method = self.method.to_uppercase();
        format!("| `{method} {}` | {scope} | {whose} |", self.path)
    }
}

#[rustfmt::skip] // a row is a line
pub const TABLE: &[Row] = &[
    row("post", "/api/v1/feedback/comment", Some(Scope::FeedbackWrite), Whose::Own),
    row("get", "/api/v1/feedback/comments", Some(Scope::FeedbackRead), Whose::Everyones),
    row("post", "/api/v1/feedback/erase", Some(Scope::FeedbackErase), Whose::Everyones),
    row("get", "/api/v1/feedback/export", Some(Scope::FeedbackReadAll), Whose::Everyones),
    row("post", "/api/v1/feedback/flag", Some(Scope::FeedbackWrite), Whose::Own),
    row("get", "/api/v1/feedback/flagged", Some(Scope::FeedbackReadAll), Whose::Everyones),
    row("get", "/api/v1/feedback/history", Some(Scope::FeedbackRead), Whose::Own),
    row("post", "/api/v1/feedback/rate", Some(Scope::FeedbackWrite), Whose::Own),
    row("get", "/api/v1/feedback/search", Some(Scope::FeedbackRead), Whose::Own),
    row("get", "/api/v1/feedback/stats", Some(Scope::StatsRead), Whose::Nobodys),
    row("get", "/api/v1/feedback/top", Some(Scope::StatsRead), Whose::Nobodys),
    row("get", "/api/v1/feedback/trend", Some(Scope::StatsRead), Whose::Nobodys),
    row("get", "/api/v1/feedback/user", Some(Scope::FeedbackRead), Whose::Own),
    row("post", "/api/v1/feedback/withdraw", Some(Scope::FeedbackWrite), Whose::Own),
    row("get", "/api/v1/monitoring/alerts", Some(Scope::AlertsRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/alerts/{alert_id}/acknowledge", Some(Scope::AlertsAcknowledge), Whose::Nobodys),
    row("get", "/api/v1/monitoring/archives", Some(Scope::RetentionRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/archives/where-is", Some(Scope::RetentionRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/audit", Some(Scope::AuditRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/audit/export", Some(Scope::AuditRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/audit/verify", Some(Scope::AuditRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/open", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/progress", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/start", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/backfill/status", Some(Scope::BackfillRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/backfill/{job_id}", Some(Scope::BackfillRead), Whose::Nobodys),
    row("put", "/api/v1/monitoring/backfill/{job_id}", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/cancel", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/claim", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/checkpoint", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/error", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/heartbeat", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/record", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/claims/{claim_id}/release", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/complete", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/backfill/{job_id}/details", Some(Scope::BackfillRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/fail", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/backfill/{job_id}/gaps", Some(Scope::BackfillRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/pause", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/resume", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/rewind", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/backfill/{job_id}/state", Some(Scope::BackfillRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/backfill/{job_id}/verify", Some(Scope::BackfillWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/backups", Some(Scope::BackupsRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/database/pool", Some(Scope::PoolRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/metrics", Some(Scope::MetricsRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/metrics", Some(Scope::MetricsWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/metrics/aggregate", Some(Scope::MetricsRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/metrics/batch", Some(Scope::MetricsWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/metrics/degradations", Some(Scope::MetricsRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/metrics/import", Some(Scope::MetricsWrite), Whose::Nobodys),
    row("get", "/api/v1/monitoring/metrics/samples", Some(Scope::MetricsRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/metrics/series", Some(Scope::MetricsRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/metrics/services", Some(Scope::MetricsRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/metrics/top", Some(Scope::MetricsRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/metrics/verify", Some(Scope::Admin), Whose::Nobodys),
    row("get", "/api/v1/monitoring/retention/holds", Some(Scope::RetentionRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/retention/holds", Some(Scope::RetentionHold), Whose::Nobodys),
    row("post", "/api/v1/monitoring/retention/holds/{hold_id}/release", Some(Scope::RetentionHold), Whose::Nobodys),
    row("get", "/api/v1/monitoring/retention/plan", Some(Scope::RetentionRead), Whose::Nobodys),
    row("post", "/api/v1/monitoring/retention/run", Some(Scope::RetentionRun), Whose::Nobodys),
    row("get", "/api/v1/monitoring/retention/status", Some(Scope::RetentionRead), Whose::Nobodys),
    row("get", "/api/v1/monitoring/schedule", Some(Scope::ScheduleRun), Whose::Nobodys),
    row("post", "/api/v1/monitoring/schedule/tick", Some(Scope::ScheduleRun), Whose::Nobodys),
    row("get", "/api/v1/slo", Some(Scope::SloRead), Whose::Nobodys),
    row("get", "/api/v1/slo/{criterion}", Some(Scope::SloRead), Whose::Nobodys),
    row("get", "/api/v1/whoami", None, Whose::Own),
    row("post", "/api/v1/write", Some(Scope::MetricsWrite), Whose::Nobodys),
    row("get", "/metrics", Some(Scope::PoolRead), Whose::Nobodys),
    row("post", "/v1/metrics", Some(Scope::MetricsWrite), Whose::Nobodys),
];
