//! Series in so many points, for charts.
//!
//! # What it guarantees
//!
//! * Each series in at most so many points, which are samples of it: its extremes, and those of each slot of time, are among
//!   them ([`Chart`]). A series with no more samples than that comes whole.
//! * Memory for the points of one series.
//! * Ranges of more than two days, in slots of an hour at least, are drawn from rollups: slots are whole hours, and of each
//!   hour come its extremes and its last sample, at their times. What is not rolled up comes from samples.
//! * Bounded work: [`LONGER`] times `metrics.max_samples_per_read` samples are looked at; where series remain, the place to
//!   go on from.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use super::{
    super::{
        Metrics,
        aggregate::extremes::chart,
        cached::{HOUR, Series},
        chart::{Chart, POINTS_A_SLOT},
        cold::ColdReads,
    },
    Selector,
    page::StreamCursor,
    stream::{Part, SampleRead},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    db::Pool,
    error::{Error, Result},
};

/// How many points may be asked for.
pub const POINTS: RangeInclusive<i64> = 4..=10_000;

/// So many times more samples than a whole read gives are looked at: they cost less, as they are not written out.
pub const LONGER: i64 = 10;

/// Ranges of more hours than this are drawn from hours.
const LONG: i64 = 48;

/// A series with its points: times in microseconds, and values.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoints {
    /// The series.
    pub series: Arc<Series>,
    /// At least one, in the order of their times.
    pub points: Vec<(i64, f64)>,
}

/// Charts being made. Dropping it ends it.
#[derive(Debug)]
pub enum PointsRead {
    /// From samples.
    OfSamples(Box<OfSamples>),
    /// From the hours that are rolled up, and samples where these are not.
    OfHours(Box<OfHours>),
}

/// Charts of long ranges.
#[derive(Debug)]
pub struct OfHours {
    pool: Pool,
    cold: ColdReads,
    _place: OwnedSemaphorePermit,
    waiting: std::vec::IntoIter<Series>,
    from: i64,
    to: i64,
    points: usize,
    /// How many samples may still be looked at.
    left: i64,
    has_given: bool,
    rest: Option<StreamCursor>,
}

/// Charts made from samples.
pub struct OfSamples {
    read: SampleRead,
    from: i64,
    to: i64,
    points: usize,
    current: Option<(Arc<Series>, Chart)>,
    has_given: bool,
    rest: Option<StreamCursor>,
}

impl fmt::Debug for OfSamples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfSamples")
            .field("read", &self.read)
            .field("points", &self.points)
            .finish_non_exhaustive()
    }
}

impl PointsRead {
    /// The next series; none when all were given, or as many as one read may give: [`Self::rest`] tells.
    ///
    /// Fails with `too_many_samples` where the first series alone has more than may be looked at.
    pub async fn next(&mut self) -> Result<Option<SeriesPoints>> {
        match self {
            Self::OfSamples(read) => read.next().await,
            Self::OfHours(read) => read.next().await,
        }
    }

    /// When [`Self::next`] gave none: from which series to go on, if any remain.
    pub fn rest(&self) -> Option<StreamCursor> {
        match self {
            Self::OfSamples(read) => read.rest,
            Self::OfHours(read) => read.rest,
        }
    }
}

impl OfHours {
    async fn next(&mut self) -> Result<Option<SeriesPoints>> {
        for series in self.waiting.by_ref() {
            let drawn = chart(
                &self.pool,
                &self.cold,
                series.id,
                (self.from, self.to),
                self.points,
                &mut self.left,
            );
            let Some(points) = drawn.await? else {
                self.rest = Some(StreamCursor {
                    series_id: series.id,
                    from: self.from,
                });
                return if self.has_given {
                    Ok(None)
                } else {
                    Err(too_many())
                };
            };
            if !points.is_empty() {
                self.has_given = true;
                let series = Arc::new(series);
                return Ok(Some(SeriesPoints { series, points }));
            }
        }
        Ok(None)
    }
}

impl OfSamples {
    async fn next(&mut self) -> Result<Option<SeriesPoints>> {
        while let Some(Part { series, samples }) = self.read.next().await? {
            let is_same = |current: &(Arc<Series>, Chart)| current.0.id == series.id;
            let finished = match &self.current {
                Some(current) if is_same(current) => None,
                _ => {
                    let chart = Chart::new(self.from, self.to, self.points);
                    self.current.replace((Arc::clone(&series), chart))
                }
            };
            if let Some((_, chart)) = &mut self.current {
                for sample in &samples {
                    chart.push(sample.0, sample.1);
                }
            }
            if let Some(finished) = finished {
                return Ok(Some(self.give(finished)));
            }
        }
        let Some((series, chart)) = self.current.take() else {
            return Ok(None);
        };
        let stopped = self.read.rest();
        if stopped.is_none_or(|at| at.series_id != series.id) {
            self.rest = stopped.map(|at| StreamCursor {
                from: self.from,
                ..at
            });
            return Ok(Some(self.give((series, chart))));
        }
        if !self.has_given {
            return Err(too_many());
        }
        // Half of a series is no chart of it.
        self.rest = Some(StreamCursor {
            series_id: series.id,
            from: self.from,
        });
        Ok(None)
    }

    fn give(&mut self, (series, chart): (Arc<Series>, Chart)) -> SeriesPoints {
        self.has_given = true;
        SeriesPoints {
            series,
            points: chart.finish(),
        }
    }
}

fn too_many() -> Error {
    Error::invalid(
        "too_many_samples",
        "the series has more samples than one chart may look at; ask for a shorter range of time",
    )
}

impl Metrics<'_> {
    /// The series that match in at most so many points each, from the series on where an earlier read stopped.
    pub async fn points(
        &self,
        selector: &Selector,
        points: i64,
        after: Option<StreamCursor>,
    ) -> Result<PointsRead> {
        if !POINTS.contains(&points) {
            let (least, most) = POINTS.into_inner();
            let message = format!("must be from {least} to {most}");
            return Err(Error::field("points", message));
        }
        let points = usize::try_from(points).unwrap_or_default();
        let range = selector.clamped();
        let hours = range.to.saturating_sub(range.from) / HOUR;
        // Where a slot is shorter than an hour, an hour's extremes are not the slot's.
        let slots = i64::try_from(points / POINTS_A_SLOT).unwrap_or(i64::MAX);
        if hours > LONG && hours >= slots {
            return self.points_of_hours(selector, points, after).await;
        }
        self.points_of_samples(selector, points, after).await
    }

    /// Points of a long range: what of each hour a chart would show is in its rollup.
    async fn points_of_hours(
        &self,
        selector: &Selector,
        points: usize,
        after: Option<StreamCursor>,
    ) -> Result<PointsRead> {
        let selector = selector.clamped();
        Ok(PointsRead::OfHours(Box::new(OfHours {
            pool: self.pool.clone(),
            cold: self.caches.cold.clone(),
            waiting: self.series_to_read(&selector, after).await?.into_iter(),
            _place: self.place().await?,
            from: selector.from,
            to: selector.to,
            points,
            left: self.settings.max_samples_per_read.saturating_mul(LONGER),
            has_given: false,
            rest: None,
        })))
    }

    /// Points made from samples, whatever the range.
    async fn points_of_samples(
        &self,
        selector: &Selector,
        points: usize,
        after: Option<StreamCursor>,
    ) -> Result<PointsRead> {
        // A chart begins with its series.
        let after = after.map(|after| StreamCursor {
            from: i64::MIN,
            ..after
        });
        let max = self.settings.max_samples_per_read.saturating_mul(LONGER);
        Ok(PointsRead::OfSamples(Box::new(OfSamples {
            read: self.read(selector, after, max).await?,
            from: selector.from,
            to: selector.to,
            points,
            current: None,
            has_given: false,
            rest: None,
        })))
    }
}
