//! Retention: what leaves the database goes to cold storage first, and goes from there when its time is up (C7).
//!
//! # What it guarantees
//!
//! * A row is in the database or in an archive, never in both and never in neither, whatever dies when. Each step that takes
//!   rows out of a table is one transaction with the step of the archive that has them, inside a function of the database
//!   that compares the rows, as they are then, with what was read back from cold storage (migration 0009).
//! * Nothing is deleted that was not read back and compared: row count, every column's extremes, the bytes' hash and the
//!   content's.
//! * What does not fit is left as it is and told: a run that could not do everything has failed, and the next one goes on
//!   where it stopped. What it can do, it does.
//! * Who runs it can read, and can call these functions. It cannot delete a row or drop a table by any other way, nor change
//!   a manifest, nor leave one of its steps out of the audit log. What the database cannot know is whether an object is where
//!   its manifest says, and whether a day's time is up: the role is trusted to have looked. It may also place and release holds
//!   and erase persons. All of that is in the log under its name.
//! * Readers and writers of other days are held up for 300 ms at most at a time, by locks that are each given up after 100 ms: the
//!   table's, the day's row and the head of the audit log. Whoever reads the day itself is waited for before those are taken.
//!
//! # A day of samples
//!
//! ```text
//! state      what has happened                                   killed here, the next run
//! (open)     its rollups are verified                            begins
//! writing    the key is recorded, the object is being written    gives it up, removes the object, begins anew
//! proved     read back and compared, the manifest is recorded    reads it back again, goes on
//! detached   the partition is no part of the table; readers      reads it back again, goes on, or puts the
//!            take the day from the archive                       partition back where the object is lost
//! archived   compared once more, sample for sample; dropped      is done
//! ```
//!
//! A sample that is written late ends the verification of its day (migration 0007), so that the day cannot be detached; and
//! from 'detached' on none is accepted. What changed all the same, because somebody switched the triggers off, is found
//! by the comparison before the drop, and the partition is put back.
//!
//! # Rows of a table
//!
//! Feedback, its history and jobs go in batches of the rows of one day in the order of their keys. Between the copy and the
//! deletion everybody may write: the deletion locks the rows, compares, and refuses when one was changed, added or taken
//! away; then the copy is given up, and made again.
//!
//! # Two at once
//!
//! One run goes at a time, by a unique index. It keeps a lease; when that is over another may begin, and everything that the
//! first one still calls is refused, as its run has ended. Its objects have keys of their own, recorded before they are
//! written: those of a run that was lost are removed, and looked for again for a week, since a slow writer may finish late.

mod archive;
mod erase;
mod expire;
mod facts;
mod holds;
mod locks;
mod look;
mod moving;
mod plan;
mod policy;
pub mod queries;
mod replace;
mod report;
mod restore;
mod run;
mod samples;
mod verify;

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

pub use archive::{Archive, State};
pub use erase::{Certificate, Rewritten};
pub use holds::{Held, Hold, MAX_REASON};
pub use look::{
    ArchiveCursor, ArchiveFilter, ArchivePage, ArchiveView, MAX_PAGE, Place, Proof, Whereabouts,
};
pub use plan::{Action, Boundary, ColdArchive, Facts, HotDay, Plan, Step, plan};
pub use policy::Policy;
pub use report::{Event, Failure, Moved, Report, Run};
pub use restore::{MAX_HOLD_DAYS, Restorable, Restored};
pub use verify::{ArchiveFault, Verified, Which, Wrong};

use crate::{
    clock::Clock,
    cold::ColdStore,
    config::Config,
    db::Pool,
    error::{Error, Result},
    metrics::Metrics,
};

/// Retention, as the role that archives.
#[derive(Clone)]
pub struct Retention<'a> {
    pool: &'a Pool,
    cold: Option<&'a ColdStore>,
    metrics: Metrics<'a>,
    config: &'a Config,
    policy: Policy,
    clock: Arc<dyn Clock>,
    events: Option<UnboundedSender<Event>>,
}

impl<'a> Retention<'a> {
    /// Retention through connections of the role that archives. Without a cold store it can plan, and expire nothing.
    pub fn new(
        pool: &'a Pool,
        cold: Option<&'a ColdStore>,
        metrics: Metrics<'a>,
        config: &'a Config,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            pool,
            cold,
            metrics,
            policy: Policy::new(&config.retention, &config.metrics),
            config,
            clock,
            events: None,
        }
    }

    /// The same, telling what it does while it does it.
    pub fn watched_by(mut self, events: UnboundedSender<Event>) -> Self {
        self.events = Some(events);
        self
    }

    /// The policy that it follows.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn cold(&self) -> Result<&ColdStore> {
        self.cold.ok_or_else(|| {
            Error::conflict(
                "no_cold_store",
                "there is no cold store to archive to: set cold.url",
            )
        })
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            // Nobody listens any more: the work goes on.
            let _ = events.send(event);
        }
    }
}

/// What the functions of the database refuse, as an error that says what it means.
fn refused(error: Error) -> Error {
    let (code, message) = match error.constraint() {
        Some("retention_run_is_over") => (
            "retention_run_over",
            "this run took longer than its lease without a sign of life, and another one goes on",
        ),
        Some("archive_changed") => (
            "archive_changed",
            "what was to be moved has changed since it was copied; the next run copies it again",
        ),
        Some("archive_held") => (
            "legal_hold",
            "it is under a legal hold: release the hold first",
        ),
        Some("archive_state") => (
            "archive_state",
            "the archive is not in a state in which that can be done; look at `archive list`",
        ),
        _ => return error,
    };
    Error::conflict(code, message).with_source(error)
}
