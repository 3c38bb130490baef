//! Pages put together from cached hours.
//!
//! An hour is rendered once, in whole, and kept so; a page is made of slices of such hours, without touching a sample. Hours
//! are looked up from the newest on, and no more of them than the page seems to need, then twice as many: a page of a few
//! samples of a busy series does not fetch a day. Those that are missing are asked for together and so share a query.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;

use super::{
    super::Metrics,
    MAX_CACHED_HOURS, MAX_CACHED_SERIES, Render, RenderedPage, Selector,
    page::{Bounds, SampleCursor},
    select::Matched,
};
use crate::{
    cache::Cached,
    db::TransactionId,
    error::Result,
    metrics::cached::{HOUR, Hour, HourKey, Sample, Series},
};

/// How many samples of a series an hour is taken to have, before it is known: one a minute and a half.
const USUAL: usize = 40;

/// The hours of the range, if the page is to come from them.
pub(super) fn cover(selector: &Selector, series: &Matched) -> Option<Range<i64>> {
    let first = selector.from.div_euclid(HOUR);
    let end = (selector.to - 1).div_euclid(HOUR) + 1;
    let fits = end - first <= MAX_CACHED_HOURS && series.len() <= MAX_CACHED_SERIES;
    (fits && series.is_cached()).then_some(first..end)
}

/// A page while it grows.
struct Page {
    parts: Vec<Bytes>,
    skip: usize,
    left: usize,
    count: usize,
    last: Option<SampleCursor>,
    has_more: bool,
}

impl Page {
    fn finish(self) -> RenderedPage {
        RenderedPage {
            parts: self.parts,
            count: self.count,
            next: self.last.filter(|_| self.has_more),
        }
    }

    /// Passes over what is skipped; gives how many of so many samples are to be taken after how many.
    fn take(&mut self, samples: usize) -> Range<usize> {
        let skipped = self.skip.min(samples);
        self.skip -= skipped;
        let taken = (samples - skipped).min(self.left);
        self.left -= taken;
        self.count += taken;
        self.has_more = skipped + taken < samples;
        skipped..skipped + taken
    }
}

type Held = Arc<Cached<Hour>>;

impl Metrics<'_> {
    /// The page; `None` where an hour has too many samples to be kept.
    pub(super) async fn newest_of_hours(
        &self,
        selector: &Selector,
        series: &Matched,
        hours: Range<i64>,
        bounds: Bounds,
        seen: Option<TransactionId>,
        render: &impl Render,
    ) -> Result<Option<RenderedPage>> {
        let series: Vec<&Series> = series.iter().collect();
        let mut range = selector.from..selector.to;
        if let ([only], Some(after)) = (&*series, bounds.after)
            && only.id >= after.series_id
        {
            range.end = range.end.min(after.at);
        }
        let mut page = Page {
            parts: Vec::new(),
            skip: bounds.skip,
            left: bounds.limit,
            count: 0,
            last: None,
            has_more: false,
        };
        let wanted = bounds.skip.saturating_add(bounds.limit);
        let mut wave = i64::try_from(wanted / (USUAL * series.len())).unwrap_or(i64::MAX);
        let mut end = hours.end;
        while end > hours.start {
            wave = wave.clamp(1, MAX_CACHED_HOURS);
            let start = (end - wave).max(hours.start);
            let held = self.look_up(&series, start..end, seen).await?;
            for of_hour in held.chunks(series.len()) {
                let is_kept = match (&*series, of_hour) {
                    ([only], [hour]) => add_slice(&mut page, only, hour, &range, render),
                    _ => add_merged(&mut page, &series, of_hour, &range, bounds.after, render),
                };
                if !is_kept {
                    return Ok(None);
                }
                if page.has_more {
                    return Ok(Some(page.finish()));
                }
            }
            end = start;
            wave *= 2;
        }
        Ok(Some(page.finish()))
    }

    /// The hours of the series, the newest first, and of each hour those of all series.
    async fn look_up(
        &self,
        series: &[&Series],
        hours: Range<i64>,
        seen: Option<TransactionId>,
    ) -> Result<Vec<Held>> {
        let keys: Vec<HourKey> = hours
            .rev()
            .flat_map(|hour| {
                series.iter().map(move |series| HourKey {
                    series_id: series.id,
                    hour,
                })
            })
            .collect();
        try_join_all(keys.iter().map(|key| self.caches.hours.get(key, seen))).await
    }
}

/// Where the samples of a range are, among samples in the order of their times.
fn places(samples: &[Sample], range: &Range<i64>) -> Range<usize> {
    let start = samples.partition_point(|sample| sample.0 < range.start);
    let end = samples.partition_point(|sample| sample.0 < range.end);
    start..end
}

/// Adds the samples of an hour of the only series; says whether the hour is kept.
fn add_slice(
    page: &mut Page,
    series: &Series,
    held: &Held,
    range: &Range<i64>,
    render: &impl Render,
) -> bool {
    let Some(samples) = held.value.samples.as_deref() else {
        return false;
    };
    let places = places(samples, range);
    let taken = page.take(places.len());
    if taken.is_empty() {
        return true;
    }
    let rendered = held.value.rendered(|samples| render(series, samples));
    // Rendered is the newest first, and the samples are the oldest first.
    let newest = samples.len() - places.end;
    let (first, last) = (newest + taken.start, newest + taken.end - 1);
    page.parts.push(slice(rendered, first, last));
    page.last = Some(SampleCursor {
        at: samples[samples.len() - 1 - last].0,
        series_id: series.id,
    });
    true
}

fn slice(rendered: &super::Rendered, first: usize, last: usize) -> Bytes {
    let end_of = |place: usize| rendered.ends.get(place).map_or(0, |end| *end as usize);
    let start = first.checked_sub(1).map_or(0, end_of);
    rendered.bytes.slice(start..end_of(last))
}

/// Adds the samples of an hour of several series; says whether all of them are kept.
fn add_merged(
    page: &mut Page,
    series: &[&Series],
    held: &[Held],
    range: &Range<i64>,
    after: Option<SampleCursor>,
    render: &impl Render,
) -> bool {
    let mut merged: Vec<(i64, i32, usize, usize)> = Vec::new();
    for (which, (series, hour)) in series.iter().zip(held).enumerate() {
        let Some(samples) = hour.value.samples.as_deref() else {
            return false;
        };
        for place in places(samples, range) {
            merged.push((samples[place].0, series.id, which, place));
        }
    }
    if let Some(after) = after {
        merged.retain(|(at, series_id, ..)| (*at, *series_id) < (after.at, after.series_id));
    }
    merged.sort_unstable_by(|one, other| other.cmp(one));
    let taken = page.take(merged.len());
    let mut bytes = BytesMut::new();
    for (at, series_id, which, place) in &merged[taken] {
        let hour = &held[*which].value;
        let rendered = hour.rendered(|samples| render(series[*which], samples));
        let newest = rendered.ends.len() - 1 - place;
        bytes.extend_from_slice(&slice(rendered, newest, newest));
        page.last = Some(SampleCursor {
            at: *at,
            series_id: *series_id,
        });
    }
    page.parts.push(bytes.freeze());
    true
}
