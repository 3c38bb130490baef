//! What there is: services, and their series.

use chrono::{DateTime, Utc};

use super::{
    super::{Metrics, cached::Series, queries},
    Selector,
    page::SeriesCursor,
};
use crate::{
    db::{self, Connection},
    error::{Error, Result},
};

/// The longest page of series or services.
pub const MAX_CATALOGUE_PAGE: i64 = 1_000;

/// A service that has reported metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub service_name: String,
    /// When it first reported.
    pub created_at: DateTime<Utc>,
    /// How many series it has.
    pub series: i64,
    /// How many types they are of.
    pub types: i64,
    /// What its series come from, told of those that have many ([`Metrics::services`]).
    pub worst: Option<Worst>,
}

/// What a service's many series come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worst {
    /// The labels with the most values.
    pub labels: Vec<WorstLabel>,
    /// The types with the most series, and how many.
    pub types: Vec<(String, i64)>,
}

/// A label with many values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorstLabel {
    /// Its name.
    pub label: String,
    /// How many values it has.
    pub values: i64,
    /// The type that has most of them.
    pub metric_type: String,
}

/// Of how many services of a page it is told what their series come from: each costs a look at all of them.
const WORST_TOLD: usize = 20;

/// Who has fewer series than this part of the limit has not many.
const MANY: i64 = 10;

impl Metrics<'_> {
    /// The series that match, in the order of their numbers, and where the next page begins. The selector's times are of
    /// no account.
    pub async fn series(
        &self,
        selector: &Selector,
        limit: i64,
        after: Option<SeriesCursor>,
    ) -> Result<(Vec<Series>, Option<SeriesCursor>)> {
        let limit = page(limit)?;
        let after = after.map_or(0, |after| after.0);
        let mut series = self.series_matching(selector, after, limit + 1).await?;
        let has_more = series.len() > limit;
        series.truncate(limit);
        let last = series.last().map(|series| SeriesCursor(series.id));
        Ok((series, last.filter(|_| has_more)))
    }

    /// The services after a name, in the order of their names, and whether there are more. Of those that have at least a
    /// tenth of the series that one may have, up to 20 of a page, it is told what they come from.
    pub async fn services(&self, limit: i64, after: Option<&str>) -> Result<(Vec<Service>, bool)> {
        let wanted = page(limit)?;
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&after.unwrap_or_default(), &(limit + 1)];
        let rows = db::query(&connection, &queries::LIST_SERVICES, params).await?;
        let mut services = rows
            .iter()
            .map(|row| {
                Ok(Service {
                    service_name: row.try_get("service_name")?,
                    created_at: row.try_get("created_at")?,
                    series: row.try_get("series")?,
                    types: row.try_get("types")?,
                    worst: None,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let has_more = services.len() > wanted;
        services.truncate(wanted);
        let many = (self.settings.max_series_per_service / MANY).max(1);
        let mut largest: Vec<&mut Service> = services
            .iter_mut()
            .filter(|service| service.series >= many)
            .collect();
        largest.sort_by_key(|service| -service.series);
        for service in largest.into_iter().take(WORST_TOLD) {
            service.worst = Some(worst(&connection, &service.service_name).await?);
        }
        Ok((services, has_more))
    }
}

fn page(limit: i64) -> Result<usize> {
    if !(1..=MAX_CATALOGUE_PAGE).contains(&limit) {
        let message = format!("must be between 1 and {MAX_CATALOGUE_PAGE}");
        return Err(Error::field("limit", message));
    }
    Ok(usize::try_from(limit).unwrap_or_default())
}

async fn worst(connection: &Connection, service: &str) -> Result<Worst> {
    let labels = db::query(connection, &queries::WORST_LABELS, &[&service]).await?;
    let types = db::query(connection, &queries::WORST_TYPES, &[&service]).await?;
    Ok(Worst {
        labels: labels
            .iter()
            .map(|row| {
                Ok(WorstLabel {
                    label: row.try_get("label")?,
                    values: row.try_get("value_count")?,
                    metric_type: row.try_get("metric_type")?,
                })
            })
            .collect::<Result<_>>()?,
        types: types
            .iter()
            .map(|row| Ok((row.try_get("metric_type")?, row.try_get("series")?)))
            .collect::<Result<_>>()?,
    })
}
