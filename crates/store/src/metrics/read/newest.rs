//! Pages read from the database and from archives.
//!
//! A page is filled from the newest end. Each step reads a range of the database and learns which of its days are cold
//! ([`cold`]): what is after the newest cold day is taken, then that day's samples from its archive, and so on before it. An
//! archive is searched once, however many series match, and as much of it is kept as the page may need.

mod archive;

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{
    super::Metrics,
    Render, RenderedPage, Selector,
    page::{Bounds, SampleCursor},
    select::Matched,
};
use crate::{
    db::{self, Statement},
    error::Result,
    metrics::{
        cached::{Sample, Series, time},
        cold::{self, ColdDay, Patience},
        queries,
    },
};

/// The first slice of time that is looked at where many series match: a minute.
const FIRST_SLICE: i64 = 60_000_000;

/// A sample with its series.
type Found = (i32, Sample);

fn found(row: &Row) -> Result<Found> {
    let at: DateTime<Utc> = row.try_get("sampled_at")?;
    let metadata: Option<String> = row.try_get("metadata")?;
    let sample = Sample(
        at.timestamp_micros(),
        row.try_get("value")?,
        metadata.map(Into::into),
    );
    Ok((row.try_get("series_id")?, sample))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whose samples.
enum Whose<'a> {
    /// Of a few series.
    Series(Vec<i32>),
    /// Of all that have the selector's names.
    Names(&'a Selector),
}

/// A page while it is filled.
struct Filling {
    /// The sample after which it begins; a time that none has, if it begins at the beginning.
    after: (i64, i32),
    skip: usize,
    /// How many samples are still wanted.
    left: usize,
    samples: Vec<Found>,
    /// Before this time nothing is wanted.
    floor: i64,
    patience: Patience,
}

impl Filling {
    fn new(selector: &Selector, bounds: Bounds) -> Self {
        let beginning = (selector.to, i32::MIN);
        Self {
            after: bounds
                .after
                .map_or(beginning, |after| (after.at, after.series_id)),
            skip: bounds.skip,
            left: bounds.limit + 1,
            samples: Vec::new(),
            floor: selector.from,
            patience: Patience::default(),
        }
    }

    fn is_full(&self) -> bool {
        self.left == 0
    }

    fn take(&mut self, found: Found) {
        self.samples.push(found);
        self.left -= 1;
    }
}

impl Metrics<'_> {
    /// The page of a few series: each one's newest samples, merged.
    pub(super) async fn newest_of_series(
        &self,
        selector: &Selector,
        series: &Matched,
        bounds: Bounds,
        render: &impl Render,
    ) -> Result<RenderedPage> {
        let mut filling = Filling::new(selector, bounds);
        let whose = Whose::Series(series.ids());
        self.fill(&whose, &mut filling, (selector.from, selector.to))
            .await?;
        let names = series.iter().map(|series| (series.id, series)).collect();
        Ok(rendered(filling.samples, bounds.limit, &names, render))
    }

    /// The page of many series or all: slices of time, the newest first, until it is full.
    pub(super) async fn newest_of_slices(
        &self,
        selector: &Selector,
        bounds: Bounds,
        render: &impl Render,
    ) -> Result<RenderedPage> {
        let (mut end, mut length) = (selector.to, FIRST_SLICE);
        let mut filling = Filling::new(selector, bounds);
        let whose = Whose::Names(selector);
        while end > selector.from && !filling.is_full() {
            let start = end.saturating_sub(length).max(selector.from);
            end = self.fill(&whose, &mut filling, (start, end)).await?;
            length = length.saturating_mul(2);
        }
        let samples = filling.samples;
        let mut ids: Vec<i32> = samples.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let series = match &*ids {
            [] => HashMap::new(),
            ids => self.series_by_id(ids).await?,
        };
        let names = series.iter().map(|(id, series)| (*id, series)).collect();
        Ok(rendered(samples, bounds.limit, &names, render))
    }

    /// Fills a page with the newest samples of a range, and of the whole of a day that is cold; gives the time before which
    /// it is to go on, unless it is full.
    async fn fill(
        &self,
        whose: &Whose<'_>,
        filling: &mut Filling,
        (from, to): (i64, i64),
    ) -> Result<i64> {
        let mut end = to;
        while end > from && !filling.is_full() {
            let (mut cold, has_all) = self.fill_from_database(whose, filling, (from, end)).await?;
            if !has_all {
                continue;
            }
            let Some(newest) = cold.last() else {
                return Ok(from);
            };
            end = end.min(newest.end());
            // Days that follow each other need no look at the database between them.
            while let Some(day) = cold.pop_if(|day| day.end() >= end) {
                if filling.is_full() {
                    break;
                }
                let since = day.start.max(filling.floor);
                if !self
                    .fill_from_archive(whose, filling, &day, (since, end))
                    .await?
                {
                    break;
                }
                end = since;
            }
        }
        Ok(end.min(to))
    }

    /// Takes what of a range is in the database, as far as its newest cold day. Gives the cold days, and whether this was
    /// all of it.
    async fn fill_from_database(
        &self,
        whose: &Whose<'_>,
        filling: &mut Filling,
        (from, to): (i64, i64),
    ) -> Result<(Vec<ColdDay>, bool)> {
        if filling.skip > 0 && matches!(whose, Whose::Names(_)) {
            // Slices that are skipped whole are not sorted.
            let (cold, count) = self.count(whose, filling, (from, to)).await?;
            if cold.is_empty() && count <= filling.skip {
                filling.skip -= count;
                return Ok((cold, true));
            }
        }
        let (cold, rows) = self.rows(whose, filling, (from, to)).await?;
        let start = cold.last().map_or(from, |day| day.end().clamp(from, to));
        if filling.skip > 0 {
            // The first row that came is one that is not skipped: all that are skipped are after it.
            let samples = rows.iter().map(found).collect::<Result<Vec<_>>>()?;
            let is_past = samples.first().is_some_and(|(_, sample)| sample.0 >= start);
            if !is_past {
                return self.skip(whose, filling, (start, to), cold).await;
            }
            filling.skip = 0;
            samples
                .into_iter()
                .take_while(|(_, sample)| sample.0 >= start)
                .for_each(|found| filling.take(found));
            return Ok((cold, true));
        }
        for row in &rows {
            let found = found(row)?;
            if found.1.0 < start {
                break;
            }
            filling.take(found);
        }
        Ok((cold, true))
    }

    /// Skips a range of the database that has no more samples than are to be skipped. Where a day of it went cold meanwhile,
    /// nothing is.
    async fn skip(
        &self,
        whose: &Whose<'_>,
        filling: &mut Filling,
        (from, to): (i64, i64),
        cold: Vec<ColdDay>,
    ) -> Result<(Vec<ColdDay>, bool)> {
        if from >= to || (cold.is_empty() && from <= filling.floor) {
            return Ok((cold, true));
        }
        let (gone_cold, count) = self.count(whose, filling, (from, to)).await?;
        // Samples may also have been written in between.
        if !gone_cold.is_empty() || count > filling.skip {
            return Ok((cold, false));
        }
        filling.skip -= count;
        Ok((cold, true))
    }

    /// How many samples of the database a range has, up to one more than are to be skipped.
    async fn count(
        &self,
        whose: &Whose<'_>,
        filling: &Filling,
        (from, to): (i64, i64),
    ) -> Result<(Vec<ColdDay>, usize)> {
        let most = number(filling.skip + 1);
        let (cold, rows) = match whose {
            Whose::Series(ids) => {
                let after = (time(filling.after.0), filling.after.1);
                let (from, to) = (time(from), time(to));
                let params: db::Params<'_> = &[ids, &from, &to, &after.0, &after.1, &most];
                self.query_of_days(&queries::COUNT_OF_SERIES, params, (from, to))
                    .await?
            }
            Whose::Names(selector) => {
                let slice = Slice {
                    selector,
                    range: (from, to),
                    after: filling.after,
                };
                self.slice(&slice, &queries::COUNT_SLICE, &[&most]).await?
            }
        };
        let mut count: i64 = 0;
        for row in &rows {
            count = row.try_get("samples")?;
        }
        Ok((cold, usize::try_from(count).unwrap_or(usize::MAX)))
    }

    /// Samples of the database after those that are skipped, the newest first.
    async fn rows(
        &self,
        whose: &Whose<'_>,
        filling: &Filling,
        (from, to): (i64, i64),
    ) -> Result<(Vec<ColdDay>, Vec<Row>)> {
        let (limit, skip) = (number(filling.left), number(filling.skip));
        match whose {
            Whose::Series(ids) => {
                let after = (time(filling.after.0), filling.after.1);
                let (from, to) = (time(from), time(to));
                let params: db::Params<'_> = &[
                    ids,
                    &from,
                    &to,
                    &after.0,
                    &after.1,
                    &(limit + skip),
                    &limit,
                    &skip,
                ];
                self.query_of_days(&queries::NEWEST_OF_SERIES, params, (from, to))
                    .await
            }
            Whose::Names(selector) => {
                let slice = Slice {
                    selector,
                    range: (from, to),
                    after: filling.after,
                };
                self.slice(&slice, &queries::NEWEST_OF_SLICE, &[&limit, &skip])
                    .await
            }
        }
    }

    async fn slice(
        &self,
        slice: &Slice<'_>,
        statement: &Statement,
        more: db::Params<'_>,
    ) -> Result<(Vec<ColdDay>, Vec<Row>)> {
        let selector = slice.selector;
        let (from, to) = (time(slice.range.0), time(slice.range.1));
        let after = time(slice.after.0);
        let has_conditions = selector.has_conditions();
        let labels = selector.labels_json();
        let params: db::Params<'_> = &[
            &from,
            &to,
            &after,
            &slice.after.1,
            &has_conditions,
            &selector.service_name,
            &selector.metric_type,
            &selector.unit,
            &labels,
        ];
        self.query_of_days(statement, &[params, more].concat(), (from, to))
            .await
    }

    async fn query_of_days(
        &self,
        statement: &Statement,
        params: db::Params<'_>,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<(Vec<ColdDay>, Vec<Row>)> {
        let connection = self.pool.get().await?;
        let range = (from.timestamp_micros(), to.timestamp_micros());
        cold::query(&connection, statement, params, range).await
    }
}

struct Slice<'a> {
    selector: &'a Selector,
    range: (i64, i64),
    after: (i64, i32),
}

/// Samples as they are answered. Those of one series that follow each other are rendered together.
fn rendered(
    mut samples: Vec<Found>,
    limit: usize,
    names: &HashMap<i32, &Series>,
    render: &impl Render,
) -> RenderedPage {
    let has_more = samples.len() > limit;
    samples.truncate(limit);
    let last = samples.last().map(|(series_id, sample)| SampleCursor {
        at: sample.0,
        series_id: *series_id,
    });
    let count = samples.len();
    let mut parts: Vec<Bytes> = Vec::new();
    let mut run: Vec<Sample> = Vec::new();
    let mut samples = samples.into_iter().peekable();
    while let Some((series_id, sample)) = samples.next() {
        run.push(sample);
        if samples.peek().is_some_and(|(next, _)| *next == series_id) {
            continue;
        }
        run.reverse();
        // A series that was taken away since its sample was read is gone with all of its samples.
        if let Some(series) = names.get(&series_id) {
            parts.push(render(series, &run).bytes);
        }
        run.clear();
    }
    RenderedPage {
        parts,
        count,
        next: last.filter(|_| has_more),
    }
}
