//! Pages read from the database.

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

/// The sample after which a page begins, as statements take it; a time that none has, if it begins at the beginning.
fn after(selector: &Selector, bounds: Bounds) -> (DateTime<Utc>, i32) {
    bounds.after.map_or((time(selector.to), i32::MIN), |after| {
        (time(after.at), after.series_id)
    })
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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
        let (after_at, after_series) = after(selector, bounds);
        let (limit, skip) = (number(bounds.limit + 1), number(bounds.skip));
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[
            &series.ids(),
            &time(selector.from),
            &time(selector.to),
            &after_at,
            &after_series,
            &(limit + skip),
            &limit,
            &skip,
        ];
        let rows = db::query_pruned(&connection, &queries::NEWEST_OF_SERIES, params).await?;
        drop(connection);
        let samples = rows.iter().map(found).collect::<Result<Vec<_>>>()?;
        let names = series.iter().map(|series| (series.id, series)).collect();
        Ok(rendered(samples, bounds.limit, &names, render))
    }

    /// The page of many series or all: slices of time, the newest first, until it is full.
    pub(super) async fn newest_of_slices(
        &self,
        selector: &Selector,
        bounds: Bounds,
        render: &impl Render,
    ) -> Result<RenderedPage> {
        let (mut end, mut length) = (selector.to, FIRST_SLICE);
        let mut skip = number(bounds.skip);
        let mut samples: Vec<Found> = Vec::new();
        while end > selector.from && samples.len() <= bounds.limit {
            let slice = Slice {
                selector,
                from: end.saturating_sub(length).max(selector.from),
                to: end,
                after: after(selector, bounds),
            };
            if !self.skips(&slice, &mut skip).await? {
                let limit = number(bounds.limit + 1 - samples.len());
                let more: db::Params<'_> = &[&limit, &skip];
                let rows = self.slice(&slice, &queries::NEWEST_OF_SLICE, more).await?;
                for row in &rows {
                    samples.push(found(row)?);
                }
                skip = 0;
            }
            end = slice.from;
            length = length.saturating_mul(2);
        }
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

    /// Whether all of a slice is skipped; then that many fewer are left to skip.
    async fn skips(&self, slice: &Slice<'_>, skip: &mut i64) -> Result<bool> {
        if *skip == 0 {
            return Ok(false);
        }
        let most = *skip + 1;
        let rows = self.slice(slice, &queries::COUNT_SLICE, &[&most]).await?;
        let mut count = 0;
        for row in &rows {
            count = row.try_get("samples")?;
        }
        let skips = count <= *skip;
        *skip -= if skips { count } else { 0 };
        Ok(skips)
    }

    async fn slice(
        &self,
        slice: &Slice<'_>,
        statement: &Statement,
        more: db::Params<'_>,
    ) -> Result<Vec<Row>> {
        let selector = slice.selector;
        let (from, to) = (time(slice.from), time(slice.to));
        let has_conditions = selector.has_conditions();
        let labels = selector.labels_json();
        let params: db::Params<'_> = &[
            &from,
            &to,
            &slice.after.0,
            &slice.after.1,
            &has_conditions,
            &selector.service_name,
            &selector.metric_type,
            &selector.unit,
            &labels,
        ];
        let connection = self.pool.get().await?;
        db::query_pruned(&connection, statement, &[params, more].concat()).await
    }
}

struct Slice<'a> {
    selector: &'a Selector,
    from: i64,
    to: i64,
    after: (DateTime<Utc>, i32),
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
