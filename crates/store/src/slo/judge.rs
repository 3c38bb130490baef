//! A function for each criterion, a file for each chapter: from what was read to a verdict, and nothing else.

pub(super) mod backfill;
pub(super) mod backups;
pub(super) mod cache;
pub(super) mod feedback;
pub(super) mod metrics;
pub(super) mod migrations;
pub(super) mod pool;
pub(super) mod retention;

use super::{Finding, Source, Verdict};

fn not_yet(source: Source) -> Verdict {
    Verdict::of(Finding::unknown(source, "not measured yet"), [])
}
