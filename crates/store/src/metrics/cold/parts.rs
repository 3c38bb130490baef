//! Parts of series out of archives, for reads that have samples of the database and of archives in one result.
//!
//! Such a read is made again and again until it lacks nothing: its transaction finds which parts of it are cold, and ends; they
//! are read, with nothing locked; and the next transaction, with a new snapshot, has them at hand. So everything that comes from
//! the database is of one snapshot, and each part from an archive that this snapshot names.

use std::collections::HashMap;

use super::{ColdDay, ColdReads, Patience};
use crate::{
    cold::SampleRange,
    error::Result,
    metrics::{queries::Part, summary::Summary},
};

/// What samples of a part become.
pub(in crate::metrics) trait Gathered: Default + Clone + Send {
    /// One more sample; they come in the order of their times.
    fn add(&mut self, at: i64, value: f64);
}

impl Gathered for Option<Summary> {
    fn add(&mut self, at: i64, value: f64) {
        match self {
            Some(summary) => summary.add(at, value),
            None => *self = Some(Summary::of(at, value)),
        }
    }
}

impl Gathered for Vec<(i64, f64)> {
    fn add(&mut self, at: i64, value: f64) {
        self.push((at, value));
    }
}

/// The cold parts of a read: those that are at hand, and those that are lacking.
#[derive(Debug)]
pub(in crate::metrics) struct ColdParts<T> {
    /// By the archive's hash and the part.
    known: HashMap<(String, Part), T>,
    lacking: Vec<(ColdDay, Vec<Part>)>,
    patience: Patience,
    /// How many samples may still be looked at.
    left: i64,
}

impl<T: Gathered> ColdParts<T> {
    /// None yet; of so many samples at most.
    pub fn of_at_most(samples: i64) -> Self {
        Self {
            known: HashMap::new(),
            lacking: Vec::new(),
            patience: Patience::default(),
            left: samples,
        }
    }

    /// Notes which of these parts of a day are not at hand.
    pub fn want(&mut self, day: &ColdDay, parts: &[Part]) {
        let lacking: Vec<Part> = parts
            .iter()
            .filter(|part| {
                !self
                    .known
                    .contains_key(&(day.object.sha256.clone(), **part))
            })
            .copied()
            .collect();
        if !lacking.is_empty() {
            self.lacking.push((day.clone(), lacking));
        }
    }

    /// Whether parts are lacking: the transaction is to end, and [`Self::fetch`] to be called.
    pub fn lacks(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// The parts of a day in their order; nothing for what is not at hand.
    pub fn of_day(&self, day: &ColdDay, parts: &[Part]) -> Vec<T> {
        let of = |part: &Part| {
            let known = self.known.get(&(day.object.sha256.clone(), *part));
            known.cloned().unwrap_or_default()
        };
        parts.iter().map(of).collect()
    }

    /// Reads what is lacking, each archive once. Says whether there were no more samples than may be looked at.
    pub async fn fetch(&mut self, cold: &ColdReads) -> Result<bool> {
        for (day, parts) in std::mem::take(&mut self.lacking) {
            let read = read(cold, &day, &parts, &mut self.left).await;
            // What is gone is lacking again, or elsewhere, in the next transaction.
            let Some(read) = self.patience.unless_gone(read)? else {
                continue;
            };
            if self.left < 0 {
                return Ok(false);
            }
            let named = parts.into_iter().zip(read);
            self.known.extend(
                named.map(|(part, read): (Part, T)| ((day.object.sha256.clone(), part), read)),
            );
        }
        Ok(true)
    }
}

/// What parts of one day amount to, in their order.
async fn read<T: Gathered>(
    cold: &ColdReads,
    day: &ColdDay,
    parts: &[Part],
    left: &mut i64,
) -> Result<Vec<T>> {
    let mut found = vec![T::default(); parts.len()];
    let mut by_series: HashMap<i32, Vec<(i64, i64, usize)>> = HashMap::new();
    for (place, (id, since, until)) in parts.iter().enumerate() {
        let range = (since.timestamp_micros(), until.timestamp_micros(), place);
        by_series.entry(*id).or_default().push(range);
    }
    let mut series: Vec<i32> = by_series.keys().copied().collect();
    series.sort_unstable();
    let ranges = || by_series.values().flatten();
    let range = SampleRange {
        series,
        from: ranges().map(|range| range.0).min().unwrap_or_default(),
        to: ranges().map(|range| range.1).max().unwrap_or_default(),
    };
    let (fetched, _place) = cold.open(day).await?;
    let mut samples = fetched.samples(range).await?;
    while let Some(some) = samples.next().await? {
        for sample in some {
            let places = by_series.get(&sample.series_id).into_iter().flatten();
            let holds =
                |(since, until, _): &&(i64, i64, usize)| (*since..*until).contains(&sample.at);
            for (.., place) in places.filter(holds) {
                found[*place].add(sample.at, sample.value);
                *left = left.saturating_sub(1);
            }
        }
        if *left < 0 {
            break;
        }
    }
    Ok(found)
}
