//! A range of time, cut where its days go from the database to archives and back.
//!
//! Where days are is read once for a read, and again when it is found to have changed: each COPY asks in its own transaction
//! whether one of its days has gone cold since ([`crate::metrics::cold`]); an archive that is gone says so itself. A day that was
//! restored meanwhile is read from its archive all the same, as long as that is there: it has the same samples.

use crate::{
    cold::{ColdSample, SampleRange, Samples},
    db::{self, Connection},
    error::Result,
    metrics::{
        cached::Sample,
        cold::{ColdDay, ColdReads, days_of, start_of},
        queries,
    },
};

/// A part of a range.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub from: i64,
    pub to: i64,
    /// Where the samples are; in the database where it is `None`.
    pub archive: Option<ColdDay>,
}

/// The parts of a range that can have samples, in order.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    pub async fn read(connection: &Connection, from: i64, to: i64) -> Result<Self> {
        let (first, last) = days_of(from, to);
        let rows = db::query(connection, &queries::READ_DAYS, &[&first, &last]).await?;
        let days = rows
            .iter()
            .map(|row| Ok((start_of(row.try_get("day")?), ColdDay::from_row(row)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self::of(days, from, to))
    }

    /// Of days by their beginnings, in order. Hot days are joined, and reach as far as no cold day is in the way: there may be
    /// new ones.
    fn of(days: Vec<(i64, Option<ColdDay>)>, from: i64, to: i64) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut end = from;
        for (_, archive) in days {
            match archive {
                Some(day) => {
                    if let Some(last) = runs.last_mut().filter(|last| last.archive.is_none()) {
                        last.to = day.start.max(last.from);
                    }
                    let (since, until) = (day.start.max(from), day.end().min(to));
                    end = until;
                    runs.push(Run {
                        from: since,
                        to: until,
                        archive: Some(day),
                    });
                }
                None if runs.last().is_some_and(|last| last.archive.is_none()) => {}
                None => runs.push(Run {
                    from: end,
                    to,
                    archive: None,
                }),
            }
        }
        runs.retain(|run| run.from < run.to);
        Self(runs)
    }

    /// The part that a time lies in, or the next one.
    pub fn at(&self, at: i64) -> Option<&Run> {
        self.0.get(self.0.partition_point(|run| run.to <= at))
    }
}

/// Samples of a series out of an archive.
pub(super) enum Archived {
    /// On demand.
    Read(Samples),
    /// Read before, with those of other series.
    AtHand(std::vec::IntoIter<Sample>),
}

fn sample(cold: ColdSample) -> Sample {
    Sample(cold.at, cold.value, cold.metadata)
}

impl Archived {
    /// Adds samples, `some` or a few more; says whether there may be more.
    pub async fn gather(&mut self, samples: &mut Vec<Sample>, some: usize) -> Result<bool> {
        match self {
            Self::AtHand(at_hand) => {
                samples.extend(at_hand.by_ref().take(some));
                Ok(at_hand.len() > 0)
            }
            Self::Read(read) => {
                while samples.len() < some {
                    let Some(more) = read.next().await? else {
                        return Ok(false);
                    };
                    samples.extend(more.into_iter().map(sample));
                }
                Ok(true)
            }
        }
    }
}

/// Begins to read a series out of an archive.
pub(super) async fn open(
    cold: &ColdReads,
    series_id: i32,
    day: &ColdDay,
    from: i64,
    to: i64,
) -> Result<Archived> {
    let range = SampleRange {
        series: vec![series_id],
        from,
        to,
    };
    let (fetched, _place) = cold.open(day).await?;
    Ok(Archived::Read(fetched.samples(range).await?))
}

/// Samples of some series that were read together.
#[derive(Debug, Default)]
pub(super) struct Block(std::collections::HashMap<(i32, i64), Vec<Sample>>);

impl Block {
    /// Those of a series and a day, if they are at hand.
    pub fn take(&mut self, series_id: i32, day: i64) -> Option<Vec<Sample>> {
        self.0.remove(&(series_id, day))
    }
}
