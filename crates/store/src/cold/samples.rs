//! Samples of some series in a range of time, out of an archive of metrics.
//!
//! Rows lie in the order (series, time), and the page index tells the least and the greatest series and time of each page: only
//! pages that can hold what is asked for are decoded.

use std::ops::Range;

use arrow_array::RecordBatch;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, RowSelection},
    },
    file::{metadata::ParquetMetaData, page_index::column_index::ColumnIndexMetaData},
};

use super::{
    Dataset, Fetched, Value,
    columns::{self, Values},
    fetched::blocking,
    rows::Pull,
};
use crate::error::{Error, Result};

/// How many rows are decoded at once.
const ROWS_A_BATCH: usize = 8_192;

/// Which samples are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRange {
    /// Of which series, in ascending order.
    pub series: Vec<i32>,
    /// From this time on, in microseconds since 1970.
    pub from: i64,
    /// Up to before this one.
    pub to: i64,
}

/// A sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ColdSample {
    /// Of which series.
    pub series_id: i32,
    /// Its time, in microseconds since 1970.
    pub at: i64,
    /// Its value.
    pub value: f64,
    /// Its metadata, as JSON.
    pub metadata: Option<Box<str>>,
}

/// Samples on demand, some thousands at once.
pub struct Samples {
    pull: Option<Pull>,
    range: SampleRange,
}

/// Consecutive rows of a row group.
type Rows = (usize, Range<usize>);

impl SampleRange {
    fn holds(&self, series: i32, at: i64) -> bool {
        (self.from..self.to).contains(&at) && self.series.binary_search(&series).is_ok()
    }

    /// Whether it may have samples among series from the one to the other.
    fn meets_series(&self, min: i32, max: i32) -> bool {
        let first = self.series.partition_point(|&series| series < min);
        self.series.get(first).is_some_and(|&series| series <= max)
    }

    fn meets_times(&self, min: i64, max: i64) -> bool {
        min < self.to && max >= self.from
    }

    /// The rows that can match, in order.
    fn candidates(&self, metadata: &ParquetMetaData) -> Vec<Rows> {
        let mut found = Vec::new();
        for (group, meta) in metadata.row_groups().iter().enumerate() {
            let rows = usize::try_from(meta.num_rows()).unwrap_or_default();
            let pages = |column, meets: &dyn Fn(&ColumnIndexMetaData, usize) -> bool| {
                pages(metadata, group, column, rows, meets)
            };
            let of_series = pages(0, &|index, page| match index {
                ColumnIndexMetaData::INT32(index) => {
                    let bounds = index.min_value(page).zip(index.max_value(page));
                    bounds.is_none_or(|(&min, &max)| self.meets_series(min, max))
                }
                _ => true,
            });
            let of_times = pages(1, &|index, page| match index {
                ColumnIndexMetaData::INT64(index) => {
                    let bounds = index.min_value(page).zip(index.max_value(page));
                    bounds.is_none_or(|(&min, &max)| self.meets_times(min, max))
                }
                _ => true,
            });
            let both = intersection(&of_series, &of_times);
            found.extend(both.into_iter().map(|rows| (group, rows)));
        }
        found
    }
}

/// The rows of the pages of a column that may match, joined where they touch; all rows where there is no index.
fn pages(
    metadata: &ParquetMetaData,
    group: usize,
    column: usize,
    rows: usize,
    meets: &dyn Fn(&ColumnIndexMetaData, usize) -> bool,
) -> Vec<Range<usize>> {
    let index = metadata.page_index_for_row_group(group);
    let (Some(values), Some(places)) = (index.column_index(column), index.offset_index(column))
    else {
        return std::iter::once(0..rows).collect();
    };
    let starts = places
        .page_locations()
        .iter()
        .map(|page| usize::try_from(page.first_row_index).unwrap_or_default());
    let starts: Vec<usize> = starts.chain([rows]).collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    for (page, bounds) in starts.windows(2).enumerate() {
        let &[start, end] = bounds else { continue };
        if !meets(values, page) {
            continue;
        }
        match found.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}

/// What is in both of two ascending lists of ranges.
fn intersection(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut found = Vec::new();
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let both = x.start.max(y.start)..x.end.min(y.end);
        if !both.is_empty() {
            found.push(both.clone());
        }
        if x.end <= y.end {
            a.next();
        } else {
            b.next();
        }
    }
    found
}

impl Fetched {
    /// The samples of a range, in the order (series, time).
    pub async fn samples(&self, range: SampleRange) -> Result<Samples> {
        let (fetched, range) = self.looking(range)?;
        blocking(move || {
            let candidates = range.candidates(fetched.metadata().metadata());
            let pull = if candidates.is_empty() {
                None
            } else {
                let reader = fetched.decode(&candidates)?;
                Some(Pull::new(&fetched, reader))
            };
            Ok(Samples { pull, range })
        })
        .await
    }

    /// The newest samples of a range, of each series `limit` at most: series in ascending order, and each one's newest first.
    pub async fn newest(&self, range: SampleRange, limit: usize) -> Result<Vec<ColdSample>> {
        let (fetched, range) = self.looking(range)?;
        blocking(move || {
            let mut found = Vec::new();
            let SampleRange { series, from, to } = range;
            for id in series {
                let one = SampleRange {
                    series: vec![id],
                    from,
                    to,
                };
                fetched.newest_of(&one, limit, &mut found)?;
            }
            Ok(found)
        })
        .await
    }

    fn looking(&self, range: SampleRange) -> Result<(Self, SampleRange)> {
        if self.dataset() != Dataset::Metrics || !range.series.is_sorted() {
            return Err(Error::internal(
                "samples are read from archives of metrics, by series in ascending order",
            ));
        }
        Ok((self.clone(), range))
    }

    /// Goes back from the last candidates, as far as is needed.
    fn newest_of(
        &self,
        range: &SampleRange,
        limit: usize,
        found: &mut Vec<ColdSample>,
    ) -> Result<()> {
        let mut candidates = range.candidates(self.metadata().metadata());
        let mut left = limit;
        while left > 0 {
            let Some((group, rows)) = candidates.pop() else {
                break;
            };
            let start = rows
                .end
                .saturating_sub(left.max(ROWS_A_BATCH))
                .max(rows.start);
            if start > rows.start {
                candidates.push((group, rows.start..start));
            }
            let mut samples = Vec::new();
            for batch in self.decode(&[(group, start..rows.end)])? {
                let batch = batch.map_err(|error| self.undecodable(error))?;
                matching(&batch, range, &mut samples)?;
            }
            found.extend(samples.into_iter().rev().take(left).inspect(|_| left -= 1));
        }
        Ok(())
    }

    /// A reader of these rows.
    fn decode(&self, candidates: &[Rows]) -> Result<ParquetRecordBatchReader> {
        let builder = self.reader().with_batch_size(ROWS_A_BATCH);
        let columns = 0..self.dataset().columns().len();
        let mask = ProjectionMask::leaves(builder.parquet_schema(), columns);
        let mut groups: Vec<usize> = candidates.iter().map(|(group, _)| *group).collect();
        groups.dedup();
        // The selection counts through all groups that are read.
        let mut ranges = Vec::with_capacity(candidates.len());
        let (mut before, mut rows_of_last, mut last) = (0, 0, None);
        for (group, rows) in candidates {
            if last != Some(*group) {
                before += rows_of_last;
                let rows = builder.metadata().row_group(*group).num_rows();
                rows_of_last = usize::try_from(rows).unwrap_or_default();
                last = Some(*group);
            }
            ranges.push(before + rows.start..before + rows.end);
        }
        let total = before + rows_of_last;
        builder
            .with_projection(mask)
            .with_row_groups(groups)
            .with_row_selection(RowSelection::from_consecutive_ranges(
                ranges.into_iter(),
                total,
            ))
            .build()
            .map_err(|error| self.undecodable(error))
    }
}

impl Samples {
    /// The next samples; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Vec<ColdSample>>> {
        let Some(pull) = &mut self.pull else {
            return Ok(None);
        };
        loop {
            let range = self.range.clone();
            let samples = pull.next(move |batch| {
                let mut samples = Vec::new();
                matching(batch, &range, &mut samples)?;
                Ok(samples)
            });
            match samples.await? {
                Some(samples) if samples.is_empty() => {}
                samples => return Ok(samples),
            }
        }
    }
}

/// Appends the samples of a batch that are in the range.
fn matching(batch: &RecordBatch, range: &SampleRange, into: &mut Vec<ColdSample>) -> Result<()> {
    let values = columns::values(Dataset::Metrics, batch)?;
    let [
        Values::Int4(series),
        Values::Time(times),
        Values::Float8(numbers),
        metadata,
    ] = values.as_slice()
    else {
        return Err(Error::internal("samples without their columns"));
    };
    for (row, (&series_id, &at)) in series.values().iter().zip(times.values()).enumerate() {
        if range.holds(series_id, at) {
            into.push(ColdSample {
                series_id,
                at,
                value: numbers.value(row),
                metadata: match metadata.get(row) {
                    Value::Text(text) => Some(text.into()),
                    _ => None,
                },
            });
        }
    }
    Ok(())
}
