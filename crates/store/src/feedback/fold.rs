//! Folding: what statements have added and taken away becomes one row for each insight.
//!
//! Writers append deltas, each with the number `x` of its transaction. A fold deletes deltas and adds their sums to
//! `feedback_stats`, both in one statement. Readers add the folded row and the deltas that are there. The fold is a function
//! of the database's (`feedback_fold_part`): the role that serves may call it, and can neither delete a delta nor change a count.
//!
//! # Why no count is lost or taken twice
//!
//! * **A reader sees each delta exactly once**: in its snapshot a fold has either committed, then the delta is gone and in
//!   the folded row, or it has not, then neither. Nothing but a fold deletes deltas, except TRUNCATE of the feedback
//!   itself, which empties both tables.
//! * **Any visible delta may be folded**, in whatever order: what is visible is committed, and addition does not care. A
//!   delta that is not visible yet stays for a later fold.
//! * **Folds do not overlap**: each begins by locking the row of `feedback_fold`, or leaves it to the one that has it. What
//!   it then does is a *later* statement, whose snapshot (READ COMMITTED) sees all that the fold before it did. A session
//!   with a stricter isolation fails on the row instead, as a serialisation failure.
//!
//! # Why there is a bound
//!
//! A deleted delta stays in the index for as long as any snapshot might need it, a backup's for hours, and a reader would
//! walk over all of them. So a fold that left nothing behind records `pg_snapshot_xmin` of its own snapshot, and readers
//! begin there:
//!
//! ```text
//! x < xmin of the fold's snapshot:  its transaction had ended, so its deltas were visible, and are folded, or never will be
//! x ≥ xmin:                         it may still run, and its deltas may appear at any time
//! ```
//!
//! Bound and deletion are one transaction: a snapshot with the bound has the deletion, and one without it has neither. The
//! bound is only a shortcut: with a lower one readers see the same deltas. A fold that took as many as it may, and thus
//! perhaps not all, leaves it alone.
//!
//! It lags behind the oldest transaction that writes anywhere in the cluster. Snapshots that only read do not hold it up.
//!
//! # A restored database
//!
//! Another cluster counts its transactions anew, below the bound perhaps, where readers would not look. So the bound
//! carries the cluster's identifier; on any other one readers look at all deltas, and the first fold sets both bounds, of
//! counts and of days, back to zero before it folds: they share the identifier. Restored into the cluster it came from,
//! the numbers go on, and bounds hold.

use super::{Feedback, queries};
use crate::{
    db::{self, Pool},
    error::Result,
};

/// How many deltas one transaction folds: some tenths of a second, so that it ends well within the statement timeout.
const DELTAS_A_TRANSACTION: i64 = 50_000;

/// What a fold has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Changes of counts that were folded.
    pub deltas: i64,
    /// Changes of days that were folded.
    pub day_deltas: i64,
    /// Another fold was under way, and the rest was left to it.
    pub skipped: bool,
}

impl Feedback<'_> {
    /// Folds everything that is visible.
    pub async fn fold(&self) -> Result<Folded> {
        fold(self.pool, DELTAS_A_TRANSACTION).await
    }

    /// The same in transactions of at most so many deltas.
    #[doc(hidden)]
    pub async fn fold_in_parts(&self, deltas_a_transaction: i64) -> Result<Folded> {
        fold(self.pool, deltas_a_transaction).await
    }
}

/// Folds everything that is visible, in as many transactions as it takes.
pub(super) async fn fold_all(pool: &Pool) -> Result<Folded> {
    fold(pool, DELTAS_A_TRANSACTION).await
}

async fn fold(pool: &Pool, limit: i64) -> Result<Folded> {
    let mut all = Folded::default();
    loop {
        let part = fold_part(pool, limit).await?;
        all.deltas += part.deltas;
        all.day_deltas += part.day_deltas;
        all.skipped = part.skipped;
        if part.skipped || (part.deltas < limit && part.day_deltas < limit) {
            return Ok(all);
        }
    }
}

async fn fold_part(pool: &Pool, limit: i64) -> Result<Folded> {
    let connection = pool.get().await?;
    let part = db::query_one(&connection, &queries::FOLD_PART, &[&limit]).await?;
    Ok(Folded {
        deltas: part.try_get("deltas")?,
        day_deltas: part.try_get("day_deltas")?,
        skipped: part.try_get("skipped")?,
    })
}
