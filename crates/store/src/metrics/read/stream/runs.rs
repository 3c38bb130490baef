//! A range of time, cut where its days go from the database to archives and back.
//!
//! Where days are is read once for a read, and again when it is found to have changed: each COPY asks in its own transaction
//! whether one of its days has gone cold since ([`crate::metrics::cold`]); an archive that is gone says so itself. A day that was
//! restored meanwhile is read from its archive all the same, as long as that is there: it has the same samples.

use std::collections::{HashMap, HashSet};

use crate::{
    cold::{ColdSample, SampleRange, Samples},
    db::{self, Connection},
    error::Result,
    metrics::{
        cached::{Sample, time},
        cold::{ColdDay, ColdReads, DAY, days_of, start_of},
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

/// Samples of some series that were read together: each archive once for all of them. Series come one after the other and days
/// within a series, so that an archive would otherwise be searched for each of them.
#[derive(Debug, Default)]
pub(super) struct Block {
    series: HashSet<i32>,
    /// By series and day.
    samples: HashMap<(i32, i64), Vec<Sample>>,
    /// A series that has too many samples to be read in a block.
    alone: Option<i32>,
}

/// Of how many series it is asked at once how many samples they have.
const SERIES_A_BLOCK: usize = 500;

impl Block {
    /// Whether it is known how a series is to be read.
    pub fn knows(&self, series_id: i32) -> bool {
        self.alone == Some(series_id) || self.series.contains(&series_id)
    }

    /// Those of a series and a day from a time on, if they are in the block.
    pub fn take(&mut self, series_id: i32, day: i64, from: i64) -> Option<Vec<Sample>> {
        if !self.series.contains(&series_id) {
            return None;
        }
        let mut samples = self.samples.remove(&(series_id, day)).unwrap_or_default();
        samples.drain(..samples.partition_point(|sample| sample.0 < from));
        Some(samples)
    }

    /// The block of the first of these series, and of as many that follow as have `most` samples in archives together.
    pub async fn choose(
        connection: &Connection,
        runs: &Runs,
        following: &[i32],
        most: i64,
    ) -> Result<Self> {
        let following = &following[..following.len().min(SERIES_A_BLOCK)];
        let mut block = Self::default();
        let archived = || runs.0.iter().filter(|run| run.archive.is_some());
        let (Some(first), Some(last)) = (archived().next(), archived().next_back()) else {
            return Ok(block);
        };
        let (since, until) = (time(first.from - first.from.rem_euclid(DAY)), time(last.to));
        let params: db::Params<'_> = &[&following, &since, &until];
        let rows = db::query(connection, &queries::COUNT_BY_ROLLUPS, params).await?;
        let counts = rows
            .iter()
            .map(|row| Ok((row.try_get("series_id")?, row.try_get("samples")?)))
            .collect::<Result<HashMap<i32, i64>>>()?;
        let mut samples = 0_i64;
        for id in following {
            samples = samples.saturating_add(counts.get(id).copied().unwrap_or_default());
            if samples > most {
                break;
            }
            block.series.insert(*id);
        }
        if block.series.is_empty() {
            block.alone = following.first().copied();
        }
        Ok(block)
    }

    /// Reads the block.
    pub async fn fill(&mut self, cold: &ColdReads, runs: &Runs) -> Result<()> {
        if self.series.is_empty() {
            return Ok(());
        }
        let mut series: Vec<i32> = self.series.iter().copied().collect();
        series.sort_unstable();
        for run in &runs.0 {
            let Some(day) = &run.archive else { continue };
            let range = SampleRange {
                series: series.clone(),
                from: run.from,
                to: run.to,
            };
            let (fetched, _place) = cold.open(day).await?;
            let mut read = fetched.samples(range).await?;
            while let Some(some) = read.next().await? {
                for found in some {
                    let place = (found.series_id, day.start);
                    self.samples.entry(place).or_default().push(sample(found));
                }
            }
        }
        Ok(())
    }
}
