//! Reading samples as they were sent.
//!
//! # What it guarantees
//!
//! * **Nothing is cut in silence**: what does not fit is said by a cursor that leads on.
//! * **Pages by cursor give each sample that stays once**, whatever is written meanwhile ([`page`]).
//! * **The same bytes from the cache as from the database**; no answer is older than a second, and one that names a
//!   transaction shows it.
//! * **Only the days of the range are read and locked**: statements are planned for their values, so that a reader of today
//!   is not in the way of retention, nor retention in its way.
//! * **Bounded memory**: a page is at most 10,000 samples; whole reads are streamed ([`stream`]).
//!
//! # How a page is found
//!
//! | which series | how |
//! |---|---|
//! | a service and a type, at most [`MAX_CACHED_SERIES`], within [`MAX_CACHED_HOURS`] hours | from cached hours ([`hours`]) |
//! | at most [`MAX_MERGED_SERIES`] | each series' index from its newest end, merged ([`newest`]) |
//! | more, or any | slices of time, the newest first, each twice as long as the one before ([`newest`]) |

pub mod catalogue;
mod hours;
mod newest;
pub mod page;
pub mod points;
mod select;
pub mod stream;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Metrics,
    cached::{Rendered, Sample, Series},
};
use crate::{db::TransactionId, error::Result, measure::Meter};
use page::{SampleCursor, SamplesPage};

/// How many series are merged from cached hours.
const MAX_CACHED_SERIES: usize = 50;

/// Over how many hours: a day, wherever it begins, and what a clock that is ahead asks for.
const MAX_CACHED_HOURS: i64 = 26;

/// How many series are merged in the database.
const MAX_MERGED_SERIES: usize = 100;

/// The longest period whose reading is measured: a day, and a second for bounds that are both meant to be in it.
const DAY: i64 = 86_401_000_000;

/// The days that can have a partition: no sample is before or after (migration 0007).
const FIRST: i64 = 31_536_000_000_000;
const END: i64 = 253_370_764_800_000_000;

/// Which samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Of this service.
    pub service_name: Option<String>,
    /// Of this type.
    pub metric_type: Option<String>,
    /// In this unit.
    pub unit: Option<String>,
    /// With all of these labels, and whatever others.
    pub labels: BTreeMap<String, String>,
    /// From this time, in microseconds since the epoch.
    pub from: i64,
    /// Before this time.
    pub to: i64,
}

impl Selector {
    /// The same within the time that samples can have.
    pub(super) fn clamped(&self) -> Self {
        Self {
            from: self.from.clamp(FIRST, END),
            to: self.to.clamp(FIRST, END),
            ..self.clone()
        }
    }

    /// Whether it asks for particular series.
    fn has_conditions(&self) -> bool {
        self.service_name.is_some()
            || self.metric_type.is_some()
            || self.unit.is_some()
            || !self.labels.is_empty()
    }

    fn labels_json(&self) -> serde_json::Value {
        let labels = self.labels.iter();
        serde_json::Value::Object(
            labels
                .map(|(name, value)| (name.clone(), value.as_str().into()))
                .collect(),
        )
    }
}

/// Writes samples of one series, which come in the order of their times, as they are answered: the newest first. Without
/// state: what it gives is kept.
pub trait Render: Fn(&Series, &[Sample]) -> Rendered + Send + Sync {}

impl<F: Fn(&Series, &[Sample]) -> Rendered + Send + Sync> Render for F {}

/// A page of samples as they are answered, the newest first, each followed by a comma.
#[derive(Debug, Default)]
pub struct RenderedPage {
    /// One after the other.
    pub parts: Vec<Bytes>,
    /// How many samples there are.
    pub count: usize,
    /// Where the next page begins, if samples remain.
    pub next: Option<SampleCursor>,
}

impl Metrics<'_> {
    /// A page of the samples that match, the newest first, by time and then series; never older than `seen`.
    pub async fn newest(
        &self,
        selector: &Selector,
        page: SamplesPage,
        seen: Option<TransactionId>,
        render: &impl Render,
    ) -> Result<RenderedPage> {
        let reading = self.newest_unmeasured(selector, page, seen, render);
        if selector.to.saturating_sub(selector.from) > DAY {
            return reading.await;
        }
        self.pool.measured(Meter::DayRead, reading).await
    }

    async fn newest_unmeasured(
        &self,
        selector: &Selector,
        page: SamplesPage,
        seen: Option<TransactionId>,
        render: &impl Render,
    ) -> Result<RenderedPage> {
        let bounds = page.bounds()?;
        let mut selector = selector.clamped();
        if let Some(after) = bounds.after {
            // The samples of one time are ordered by their series: those of smaller ones are still to come.
            selector.to = selector.to.min(after.at.saturating_add(1));
        }
        if selector.from >= selector.to {
            return Ok(RenderedPage::default());
        }
        let matched = self
            .matching(&selector, MAX_MERGED_SERIES + 1, seen)
            .await?;
        let Some(series) = matched.filter(|series| series.len() <= MAX_MERGED_SERIES) else {
            let selector = &selector;
            return self
                .reads
                .run(|pool| {
                    let there = Self { pool, ..*self };
                    Box::pin(async move { there.newest_of_slices(selector, bounds, render).await })
                })
                .await;
        };
        if series.is_empty() {
            return Ok(RenderedPage::default());
        }
        let cached = hours::cover(&selector, &series);
        if let Some(hours) = cached
            && let Some(page) = self
                .newest_of_hours(&selector, &series, hours, bounds, seen, render)
                .await?
        {
            return Ok(page);
        }
        let (selector, series) = (&selector, &series);
        self.reads
            .run(|pool| {
                let there = Self { pool, ..*self };
                Box::pin(async move {
                    there
                        .newest_of_series(selector, series, bounds, render)
                        .await
                })
            })
            .await
    }
}
