//! Which series match.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::Row;

use super::{super::Metrics, Selector};
use crate::{
    cache::Cached,
    db::{self, TransactionId},
    error::{Error, Result},
    metrics::{
        cached::{Series, SeriesKey},
        queries,
    },
};

/// Series that match, in the order of their numbers.
pub(in crate::metrics) enum Matched {
    /// Some of a cached list.
    Cached {
        list: Arc<Cached<Vec<Series>>>,
        places: Vec<usize>,
    },
    /// Read for this.
    Read(Vec<Series>),
}

impl Matched {
    pub fn len(&self) -> usize {
        match self {
            Self::Cached { places, .. } => places.len(),
            Self::Read(series) => series.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = &Series> + Send + '_> {
        match self {
            Self::Cached { list, places } => {
                Box::new(places.iter().filter_map(|at| list.value.get(*at)))
            }
            Self::Read(series) => Box::new(series.iter()),
        }
    }

    pub fn ids(&self) -> Vec<i32> {
        self.iter().map(|series| series.id).collect()
    }

    /// Whether they are of a list that is kept.
    pub fn is_cached(&self) -> bool {
        matches!(self, Self::Cached { .. })
    }
}

fn has_names(selector: &Selector, series: &Series) -> bool {
    let unit = selector.unit.as_ref();
    unit.is_none_or(|unit| *unit == series.name.unit)
        && selector
            .labels
            .iter()
            .all(|(name, value)| series.name.labels.get(name) == Some(value))
}

impl Metrics<'_> {
    /// The series that match, `limit` of them at least where there are more; `None` where every series does.
    pub(in crate::metrics) async fn matching(
        &self,
        selector: &Selector,
        limit: usize,
        seen: Option<TransactionId>,
    ) -> Result<Option<Matched>> {
        let (service, kind) = (&selector.service_name, &selector.metric_type);
        if let (Some(service_name), Some(metric_type)) = (service, kind) {
            let key = SeriesKey {
                service_name: service_name.clone(),
                metric_type: metric_type.clone(),
            };
            let list = self.caches.series.get(&key, seen).await?;
            let places = (0..list.value.len())
                .filter(|at| has_names(selector, &list.value[*at]))
                .collect();
            return Ok(Some(Matched::Cached { list, places }));
        }
        if !selector.has_conditions() {
            return Ok(None);
        }
        let found = self.series_matching(selector, 0, limit).await?;
        Ok(Some(Matched::Read(found)))
    }

    /// The series after a number that match, as the database has them.
    pub(in crate::metrics) async fn series_matching(
        &self,
        selector: &Selector,
        after: i32,
        limit: usize,
    ) -> Result<Vec<Series>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[
            &selector.service_name,
            &selector.metric_type,
            &selector.unit,
            &selector.labels_json(),
            &after,
            &limit,
        ];
        let rows = db::query_pruned(&connection, &queries::MATCH_SERIES, params).await?;
        rows.iter().map(Series::from_row).collect()
    }

    /// Series by their numbers.
    pub(super) async fn series_by_id(&self, ids: &[i32]) -> Result<HashMap<i32, Series>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::SERIES_BY_ID, &[&ids]).await?;
        let named = |row: &Row| Series::from_row(row).map(|series| (series.id, series));
        rows.iter().map(named).collect()
    }

    /// Refuses more series than one read may be about.
    pub(in crate::metrics) fn check_count(&self, count: usize) -> Result<()> {
        let max = self.settings.max_series_per_read;
        if i64::try_from(count).unwrap_or(i64::MAX) <= max {
            return Ok(());
        }
        Err(Error::invalid(
            "too_many_series_matched",
            format!(
                "more than {max} series match: name a service, a type, a unit or labels that fewer of them have, or raise metrics.max_series_per_read"
            ),
        ))
    }
}
