//! Backfill jobs (C1).

use super::{Told, found, guarded, no_rows, of, probed, within};
use crate::{
    measure::Meter,
    slo::{
        Finding, Source, Verdict,
        evidence::{Gathered, Rows},
    },
};

/// A finding out of the newest jobs.
fn jobs(gathered: &Gathered, find: impl FnOnce(&Rows) -> Finding) -> Finding {
    found(of(&gathered.rows, Source::Rows).map(find))
}

/// C1.1.
pub fn starting(gathered: &Gathered) -> Verdict {
    let rows = jobs(gathered, |rows| {
        no_rows(
            rows.without_status,
            rows.jobs,
            rows.jobs_from,
            "jobs that were started have no status that there is",
        )
    });
    let guards = [
        "constraint backfill_jobs_status_check",
        "required backfill_jobs.status",
        "required backfill_jobs.started_at",
    ];
    Verdict::of(probed(gathered, "C1.1"), [rows, guarded(gathered, &guards)])
}

/// C1.2.
pub fn progress(gathered: &Gathered) -> Verdict {
    let told = Told::milliseconds(
        "progress updates",
        "it is measured when a worker reports progress",
    );
    let guards = [
        "generated backfill_jobs.progress_percentage",
        "generated backfill_jobs.estimated_completion",
    ];
    Verdict::of(
        within(gathered, Meter::ProgressWrite, told),
        [guarded(gathered, &guards)],
    )
}

/// C1.3.
pub fn completing(gathered: &Gathered) -> Verdict {
    let rows = jobs(gathered, |rows| {
        no_rows(
            rows.without_end,
            rows.completed,
            rows.jobs_from,
            "completed jobs have no completion time, or one before their start",
        )
    });
    let guards = [
        "generated backfill_jobs.completed_at",
        "constraint backfill_jobs_ended_check",
        "constraint backfill_jobs_completed_check",
    ];
    Verdict::of(probed(gathered, "C1.3"), [rows, guarded(gathered, &guards)])
}

/// C1.4.
pub fn failing(gathered: &Gathered) -> Verdict {
    let rows = jobs(gathered, |rows| {
        no_rows(
            rows.without_error,
            rows.failed,
            rows.jobs_from,
            "failed jobs have no error message",
        )
    });
    let guards = ["constraint backfill_jobs_failed_check"];
    Verdict::of(probed(gathered, "C1.4"), [rows, guarded(gathered, &guards)])
}

/// C1.5.
pub fn reading(gathered: &Gathered) -> Verdict {
    let told = Told::milliseconds(
        "reads of jobs from the database",
        "it is measured when a job's status is read that no cache has",
    );
    Verdict::of(within(gathered, Meter::JobRead, told), [])
}
