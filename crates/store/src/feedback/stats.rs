//! What users think of an insight, counted.
//!
//! Statistics are the folded counts plus the deltas that no fold has taken yet, read in one statement (migration 0005 says
//! how they come about, [`fold`](super::fold) why nothing is counted twice or missed). How long that takes depends on the
//! deltas of the last second, not on how often an insight was ever rated.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{Feedback, queries};
use crate::{
    db::{self, Pool, Snapshot},
    error::{Error, Result},
};

/// Counts of feedback on one insight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How often each rating was given, from 1 to 5.
    pub ratings: [i64; 5],
    /// How many comments.
    pub comments: i64,
    /// How many flags of each type, in the order of [`super::FlagType::ALL`].
    pub flags: [i64; 5],
}

impl Counts {
    /// Reads the eleven counters, in the order of the tables' columns.
    pub(super) fn from_row(row: &Row, column: &str) -> Result<Self> {
        let counters: Vec<i64> = row.try_get(column)?;
        let [r1, r2, r3, r4, r5, comments, flags @ ..] = counters.as_slice() else {
            return Err(Error::internal("counters are missing"));
        };
        let flags = flags
            .try_into()
            .map_err(|_| Error::internal("counters of flags are missing"))?;
        Ok(Self {
            ratings: [*r1, *r2, *r3, *r4, *r5],
            comments: *comments,
            flags,
        })
    }

    /// How many ratings.
    pub fn total_ratings(&self) -> i64 {
        self.ratings.iter().sum()
    }

    /// How many flags.
    pub fn total_flags(&self) -> i64 {
        self.flags.iter().sum()
    }

    /// The sum of all ratings.
    pub fn rating_sum(&self) -> i64 {
        (1..).zip(self.ratings).map(|(stars, n)| stars * n).sum()
    }

    /// The mean rating; 0 without ratings, as the contract has it.
    pub fn average_rating(&self) -> f64 {
        let total = self.total_ratings();
        if total == 0 {
            0.0
        } else {
            self.rating_sum() as f64 / total as f64
        }
    }
}

/// The statistics of one insight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The insight.
    pub insight_id: String,
    /// Of the rows that are there.
    pub live: Counts,
    /// Of the rows that retention has removed; with `live`, what was ever said. A user who rates again after that is
    /// counted anew.
    pub retired: Counts,
}

/// Statistics, and the snapshot that all of them were read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// One for each id asked for, in that order; zeros for an insight that nobody spoke of.
    pub stats: Vec<Stats>,
    /// What was visible.
    pub snapshot: Snapshot,
    /// How many changes that are not folded yet were added up: many of them ask for a fold.
    pub open_deltas: i64,
}

/// Reads the statistics of insights, at least one, in one statement and one snapshot.
pub async fn load_stats(pool: &Pool, insight_ids: &[String]) -> Result<Loaded> {
    let connection = pool.get().await?;
    let rows = db::query(&connection, &queries::READ_STATS, &[&insight_ids]).await?;
    let first = rows
        .first()
        .ok_or_else(|| Error::internal("no statistics were read: name an insight"))?;
    let snapshot: &str = first.try_get("snapshot")?;
    let mut open_deltas = 0;
    let stats = rows
        .iter()
        .map(|row| {
            open_deltas += row.try_get::<_, i64>("open_deltas")?;
            Ok(Stats {
                insight_id: row.try_get("insight_id")?,
                live: Counts::from_row(row, "live")?,
                retired: Counts::from_row(row, "retired")?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Loaded {
        stats,
        snapshot: snapshot.parse()?,
        open_deltas,
    })
}

/// From so many open deltas on, a reader asks for a fold: those of psql's writes are else folded once a minute.
pub(super) const MANY_DELTAS: i64 = 1_000;

impl Feedback<'_> {
    /// The statistics of insights, at least one, in the order asked for, exact in the snapshot that comes with them.
    pub async fn load_stats(&self, insight_ids: &[String]) -> Result<Loaded> {
        let loaded = load_stats(self.pool, insight_ids).await?;
        if loaded.open_deltas > MANY_DELTAS {
            self.writer.fold_soon();
        }
        Ok(loaded)
    }

    /// The statistics of one insight, exact, from the database.
    pub async fn stats(&self, insight_id: &str) -> Result<Stats> {
        let loaded = self.load_stats(&[insight_id.to_owned()]).await?;
        loaded
            .stats
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal("no statistics were read"))
    }
}
