//! What the calls about criteria take and give.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::slo;

/// Which criteria, judged how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct ReportQuery {
    /// Only those in this state.
    #[param(inline)]
    pub state: Option<CriterionState>,
    /// How far back what was measured is looked at, in hours; slo.window_hours unless said.
    #[param(minimum = 1, maximum = 744)]
    pub window_hours: Option<i64>,
}

/// Judged how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct WindowQuery {
    /// How far back what was measured is looked at, in hours; slo.window_hours unless said.
    #[param(minimum = 1, maximum = 744)]
    pub window_hours: Option<i64>,
}

/// Which criterion.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct CriterionPath {
    /// Its number, `C1.1` to `C8.5`.
    #[param(min_length = 4, max_length = 4)]
    pub criterion: String,
}

/// How a criterion stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CriterionState {
    /// What was measured is what it asks for.
    Met,
    /// It is not.
    Missed,
    /// It cannot be judged yet.
    Unknown,
}

impl From<slo::State> for CriterionState {
    fn from(state: slo::State) -> Self {
        match state {
            slo::State::Met => Self::Met,
            slo::State::Missed => Self::Missed,
            slo::State::Unknown => Self::Unknown,
        }
    }
}

/// How many criteria are in each state.
#[derive(Debug, Serialize, ToSchema)]
pub struct CriterionCounts {
    /// What they ask for is so.
    met: usize,
    /// It is not.
    missed: usize,
    /// It cannot be said yet.
    unknown: usize,
}

/// The criteria at one moment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CriteriaReport)]
pub struct Report {
    /// When they were judged.
    judged_at: DateTime<Utc>,
    /// How far back what was measured is looked at.
    window_seconds: i64,
    /// How many of all are in each state.
    counts: CriterionCounts,
    /// The criteria, in order.
    criteria: Vec<Criterion>,
}

/// A criterion, and how it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Criterion {
    /// Its number, `C1.1` to `C8.5`.
    id: &'static str,
    /// Its chapter, from 1 to 8.
    chapter: usize,
    /// Its chapter's name.
    chapter_title: &'static str,
    /// What it is about.
    title: &'static str,
    /// What it asks for.
    target: &'static str,
    /// How it stands.
    state: CriterionState,
    /// What was found out, in a sentence.
    summary: String,
    /// The number in it; null where there is none.
    measured: Option<MeasuredValue>,
    /// Of how many values, rows or runs; null where that says nothing.
    sample_size: Option<u64>,
    /// How long the window is that was judged; null where it is the present that was.
    window_seconds: Option<i64>,
    /// When the first evidence in the window is from.
    first_evidence_at: Option<DateTime<Utc>>,
    /// Since when it is known to be in this state; when it was judged where it was not seen in it before.
    since: DateTime<Utc>,
    /// When it was judged.
    judged_at: DateTime<Utc>,
    /// Why it is missed, or why it cannot be judged yet and what to do for it; null where it is met.
    reason: Option<String>,
    /// What the verdict is made of.
    evidence: Vec<CriterionEvidence>,
}

/// A criterion, and how it stood before.
#[derive(Debug, Serialize, ToSchema)]
pub struct CriterionDetails {
    /// How it stands.
    pub criterion: Criterion,
    /// Its latest changes, the newest first, at most 50.
    pub history: Vec<CriterionChange>,
}

/// A change of a criterion's state.
#[derive(Debug, Serialize, ToSchema)]
pub struct CriterionChange {
    /// The state that it went into.
    state: CriterionState,
    /// When that was seen.
    at: DateTime<Utc>,
    /// What was found then.
    summary: String,
}

impl From<slo::Change> for CriterionChange {
    fn from(change: slo::Change) -> Self {
        Self {
            state: change.state.into(),
            at: change.at,
            summary: change.summary,
        }
    }
}

/// A number with its unit.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeasuredValue {
    /// The number.
    value: f64,
    /// What it counts: `ms`, `%`, `days` …
    unit: &'static str,
}

/// What kind of evidence something is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// Measured by the processes that serve, and merged.
    Histogram,
    /// Counted in the tables.
    Rows,
    /// Read from the database's catalogue.
    Catalogue,
    /// Tried in a scratch database.
    Probe,
    /// A run of a scheduled task, or a backup or a proof.
    Run,
    /// The audit log.
    Audit,
    /// The manifest of an archive or a backup.
    Manifest,
    /// A setting of the process that answers.
    Setting,
}

impl From<slo::Source> for EvidenceKind {
    fn from(source: slo::Source) -> Self {
        match source {
            slo::Source::Histogram => Self::Histogram,
            slo::Source::Rows => Self::Rows,
            slo::Source::Catalogue => Self::Catalogue,
            slo::Source::Probe => Self::Probe,
            slo::Source::Run => Self::Run,
            slo::Source::Audit => Self::Audit,
            slo::Source::Manifest => Self::Manifest,
            slo::Source::Setting => Self::Setting,
        }
    }
}

/// One thing that a verdict is made of.
#[derive(Debug, Serialize, ToSchema)]
pub struct CriterionEvidence {
    /// What kind it is.
    kind: EvidenceKind,
    /// What it says by itself.
    state: CriterionState,
    /// A sentence.
    text: String,
    /// The page of the dashboard that shows it.
    page: &'static str,
    /// The call that shows it.
    call: &'static str,
}

impl Report {
    /// The report, with those in a state alone where one is wanted.
    pub fn of(report: &slo::Report, wanted: Option<slo::State>) -> Self {
        let is_wanted = |one: &&slo::Criterion| wanted.is_none_or(|state| one.state == state);
        Self {
            judged_at: report.judged_at,
            window_seconds: report.window_seconds,
            counts: CriterionCounts {
                met: report.counts.met,
                missed: report.counts.missed,
                unknown: report.counts.unknown,
            },
            criteria: report
                .criteria
                .iter()
                .filter(is_wanted)
                .cloned()
                .map(Criterion::from)
                .collect(),
        }
    }
}

impl From<slo::Criterion> for Criterion {
    fn from(one: slo::Criterion) -> Self {
        Self {
            id: one.id,
            chapter: one.chapter,
            chapter_title: one.chapter_title,
            title: one.title,
            target: one.target,
            state: one.state.into(),
            summary: one.summary,
            measured: one.measured.map(|measured| MeasuredValue {
                value: measured.value,
                unit: measured.unit,
            }),
            sample_size: one.sample_size,
            window_seconds: one.window_seconds,
            first_evidence_at: one.first_evidence_at,
            since: one.since,
            judged_at: one.judged_at,
            reason: one.reason,
            evidence: one
                .evidence
                .into_iter()
                .map(|piece| CriterionEvidence {
                    kind: piece.kind.into(),
                    state: piece.state.into(),
                    text: piece.text,
                    page: piece.page,
                    call: piece.call,
                })
                .collect(),
        }
    }
}
