//! The newest samples of an archive.

use super::{Filling, Found, Whose};
use crate::{
    cold::{ColdSample, Fetched, SampleRange},
    db,
    error::Result,
    metrics::{Metrics, cached::Sample, cold::ColdDay, queries},
};

/// So many samples are looked for at most by going back from each series' end; beyond, the range is read through.
const PICKED: usize = 50_000;

impl Metrics<'_> {
    /// Takes the newest samples of a range of a cold day; says whether its archive was still there.
    pub(super) async fn fill_from_archive(
        &self,
        whose: &Whose<'_>,
        filling: &mut Filling,
        day: &ColdDay,
        (from, to): (i64, i64),
    ) -> Result<bool> {
        let range = SampleRange {
            series: self.ids(whose).await?,
            from,
            to,
        };
        let most = filling.skip + filling.left;
        let read = async {
            let (fetched, _place) = self.caches.cold.open(day).await?;
            newest(&fetched, range, filling.after, most).await
        };
        let Some(samples) = filling.patience.unless_gone(read.await)? else {
            return Ok(false);
        };
        let skipped = filling.skip.min(samples.len());
        filling.skip -= skipped;
        for found in samples.into_iter().skip(skipped) {
            filling.take(found);
        }
        Ok(true)
    }

    async fn ids(&self, whose: &Whose<'_>) -> Result<Vec<i32>> {
        let selector = match whose {
            Whose::Series(ids) => {
                let mut ids = ids.clone();
                ids.sort_unstable();
                return Ok(ids);
            }
            Whose::Names(selector) => selector,
        };
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[
            &selector.has_conditions(),
            &selector.service_name,
            &selector.metric_type,
            &selector.unit,
            &selector.labels_json(),
        ];
        let rows = db::query(&connection, &queries::SERIES_IDS, params).await?;
        rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
    }
}

/// The newest `most` samples of a range that come after a sample in the list of the newest ones, in this order.
async fn newest(
    fetched: &Fetched,
    range: SampleRange,
    after: (i64, i32),
    most: usize,
) -> Result<Vec<Found>> {
    let mut newest = Newest {
        after,
        most,
        samples: Vec::new(),
    };
    if range.series.len().saturating_mul(most) <= PICKED {
        // One more: that of the time at which the page before ended may be on that page.
        newest.add(fetched.newest(range, most + 1).await?);
    } else {
        let mut samples = fetched.samples(range).await?;
        while let Some(some) = samples.next().await? {
            newest.add(some);
        }
    }
    newest.cut();
    newest.samples.sort_unstable_by(Newest::order);
    Ok(newest.samples)
}

/// The newest of the samples that were added, and some others.
struct Newest {
    after: (i64, i32),
    most: usize,
    samples: Vec<Found>,
}

impl Newest {
    /// The greatest time first, then the greatest series.
    fn order(one: &Found, other: &Found) -> std::cmp::Ordering {
        (other.1.0, other.0).cmp(&(one.1.0, one.0))
    }

    fn add(&mut self, samples: Vec<ColdSample>) {
        for sample in samples {
            if sample.at == self.after.0 && sample.series_id >= self.after.1 {
                continue;
            }
            let found = Sample(sample.at, sample.value, sample.metadata);
            self.samples.push((sample.series_id, found));
        }
        if self.samples.len() > 2 * self.most + PICKED {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.samples.len() > self.most {
            self.samples.select_nth_unstable_by(self.most, Self::order);
            self.samples.truncate(self.most);
        }
    }
}
