//! What of metrics is cached: the series of a service and a type, and the samples of one hour of one series.
//!
//! An hour is the unit since it is what a write touches: a dashboard that reads a day finds 23 hours as they were, and only the
//! one that is being written anew. A read is put together from hours, each at most a second old ([`crate::cache`]).

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{
    cold::{self, ColdReads},
    queries,
    read::stream::Places,
    sample::SeriesName,
};
use crate::{
    cache::{Cache, Key, Kind, Load, Loaded, Space, Stale},
    cold::ColdStore,
    config::MetricsSettings,
    db::{self, Pool, Snapshot},
    error::{Error, Result},
};

/// Microseconds of an hour.
pub const HOUR: i64 = 3_600_000_000;

/// A series as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Its number.
    pub id: i32,
    /// What it is called.
    #[serde(flatten)]
    pub name: SeriesName,
}

impl Series {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let labels: serde_json::Value = row.try_get("labels")?;
        let labels: BTreeMap<String, String> = serde_json::from_value(labels).map_err(|error| {
            Error::internal("the labels of a series are no texts").with_source(error)
        })?;
        Ok(Self {
            id: row.try_get("id")?,
            name: SeriesName {
                service_name: row.try_get("service_name")?,
                metric_type: row.try_get("metric_type")?,
                unit: row.try_get("unit")?,
                labels,
            },
        })
    }
}

/// The series of a service and a type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    /// The service.
    pub service_name: String,
    /// The type.
    pub metric_type: String,
}

/// Stands between a service and a type in the outbox and in Redis; no name has it.
const SEPARATOR: char = '\u{1f}';

impl Key for SeriesKey {
    type Value = Vec<Series>;
    const KIND: Kind = Kind::MetricSeries;

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(format!(
            "{}{SEPARATOR}{}",
            self.service_name, self.metric_type
        ))
    }

    fn is_worth_sharing(series: &Vec<Series>) -> bool {
        !series.is_empty()
    }

    fn weight(series: &Vec<Series>) -> u32 {
        u32::try_from(series.len()).unwrap_or(u32::MAX).max(1)
    }

    fn stale(kind: &str, key: Option<&str>) -> Stale<Self> {
        if kind != "metric_series" {
            return Stale::Nothing;
        }
        match key.and_then(|key| key.split_once(SEPARATOR)) {
            Some((service_name, metric_type)) => Stale::Keys(vec![Self {
                service_name: service_name.to_owned(),
                metric_type: metric_type.to_owned(),
            }]),
            None => Stale::All,
        }
    }
}

/// An hour of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HourKey {
    /// The series.
    pub series_id: i32,
    /// The hour, in hours since the epoch.
    pub hour: i64,
}

/// One sample as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample(
    /// Its time, in microseconds since the epoch.
    pub i64,
    /// Its value.
    pub f64,
    /// Its metadata, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub Option<Box<str>>,
);

/// The samples of an hour of a series.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Hour {
    /// In the order of their times; `None` where they are not kept: they are too many, or in cold storage. Hours that many ask
    /// for are loaded together, and those of the database are not to wait for those of an object store, nor to fail with them.
    pub samples: Option<Vec<Sample>>,
    /// The samples as they are answered, made when it is first asked for.
    #[serde(skip)]
    rendered: OnceLock<Rendered>,
}

/// Samples as they are answered, the newest first, each followed by a comma.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// All of them.
    pub bytes: Bytes,
    /// Where each ends, comma included, in the order of the bytes.
    pub ends: Arc<[u32]>,
}

impl Hour {
    /// The samples in the form in which they are answered. Always to be asked for with the same function.
    pub fn rendered(&self, render: impl FnOnce(&[Sample]) -> Rendered) -> &Rendered {
        self.rendered
            .get_or_init(|| render(self.samples.as_deref().unwrap_or_default()))
    }
}

/// What a sample takes in this process, together with its answer.
const SAMPLE_BYTES: usize = 300;

impl Key for HourKey {
    type Value = Hour;
    const KIND: Kind = Kind::MetricSamples;

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{}:{}", self.hour, self.series_id))
    }

    fn is_worth_sharing(hour: &Hour) -> bool {
        hour.samples
            .as_ref()
            .is_some_and(|samples| !samples.is_empty())
    }

    fn weight(hour: &Hour) -> u32 {
        let samples = hour.samples.as_deref().unwrap_or_default();
        let metadata: usize = samples
            .iter()
            .filter_map(|sample| sample.2.as_ref())
            .map(|text| text.len() * 2)
            .sum();
        u32::try_from(200 + samples.len() * SAMPLE_BYTES + metadata).unwrap_or(u32::MAX)
    }

    fn stale(kind: &str, key: Option<&str>) -> Stale<Self> {
        if kind != "metric_samples" {
            return Stale::Nothing;
        }
        let keys = key.and_then(|key| {
            let (hour, series) = key.split_once(':')?;
            let hour = hour.parse().ok()?;
            series
                .split(',')
                .map(|series_id| {
                    Some(Self {
                        series_id: series_id.parse().ok()?,
                        hour,
                    })
                })
                .collect()
        });
        keys.map_or(Stale::All, Stale::Keys)
    }
}

/// The cached metrics of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct MetricCaches {
    pub(super) series: Space<SeriesKey>,
    pub(super) hours: Space<HourKey>,
    /// Reads that go past the cache, of which so many run at once.
    pub(super) reads: Places,
    /// Archives of samples.
    pub(super) cold: ColdReads,
}

impl MetricCaches {
    /// Over this cache, filled from this pool. What is not in the database is in the cold store.
    pub fn new(
        cache: &Cache,
        pool: &Pool,
        settings: &MetricsSettings,
        cold: Option<&ColdStore>,
    ) -> Self {
        let (of_series, of_hours) = (pool.clone(), pool.clone());
        let load_series: Load<SeriesKey, Vec<Series>> = Arc::new(move |keys| {
            let pool = of_series.clone();
            Box::pin(async move { load_series(&pool, keys).await })
        });
        let max = i64::try_from(settings.max_cached_samples_per_hour).unwrap_or(i64::MAX);
        let load_hours: Load<HourKey, Hour> = Arc::new(move |keys| {
            let pool = of_hours.clone();
            Box::pin(async move { load_hours(&pool, keys, max).await })
        });
        Self {
            series: cache.space(load_series),
            hours: cache.space(load_hours),
            reads: Places::default(),
            cold: ColdReads::new(cold),
        }
    }

    /// Notes, when it is dropped, that series may have been made: those that are not in the lists held here. To be made
    /// before samples are recorded.
    pub(super) fn noting(&self, names: &[SeriesName]) -> NewSeries<'_> {
        let mut by_list: HashMap<(&str, &str), Vec<&SeriesName>> = HashMap::new();
        for name in names {
            let list = (&*name.service_name, &*name.metric_type);
            by_list.entry(list).or_default().push(name);
        }
        let keys = by_list.into_iter().filter_map(|(list, names)| {
            let key = SeriesKey {
                service_name: list.0.to_owned(),
                metric_type: list.1.to_owned(),
            };
            let held = self.series.peek(&key);
            let lists_all = held.is_some_and(|held| lists_all(&held.value, &names));
            (!lists_all).then_some(key)
        });
        NewSeries {
            caches: self,
            keys: keys.collect(),
        }
    }
}

/// Whether a list has all of these names.
fn lists_all(list: &[Series], names: &[&SeriesName]) -> bool {
    if let [name] = names {
        return list.iter().any(|series| series.name == **name);
    }
    let listed: HashSet<&SeriesName> = list.iter().map(|series| &series.name).collect();
    names.iter().all(|name| listed.contains(name))
}

/// See [`MetricCaches::noting`].
pub(super) struct NewSeries<'a> {
    caches: &'a MetricCaches,
    keys: Vec<SeriesKey>,
}

impl Drop for NewSeries<'_> {
    fn drop(&mut self) {
        for key in &self.keys {
            self.caches.series.wrote(key);
        }
    }
}

fn snapshot_of(rows: &[Row]) -> Result<Snapshot> {
    let first = rows
        .first()
        .ok_or_else(|| Error::internal("nothing was asked for"))?;
    first.try_get::<_, &str>("snapshot")?.parse()
}

async fn load_series(pool: &Pool, keys: Vec<SeriesKey>) -> Result<Loaded<Vec<Series>>> {
    let services: Vec<&str> = keys.iter().map(|key| &*key.service_name).collect();
    let types: Vec<&str> = keys.iter().map(|key| &*key.metric_type).collect();
    let connection = pool.get().await?;
    let rows = db::query(&connection, &queries::LOAD_SERIES, &[&services, &types]).await?;
    let snapshot = snapshot_of(&rows)?;
    let mut values: Vec<Vec<Series>> = keys.iter().map(|_| Vec::new()).collect();
    for row in &rows {
        if row.try_get::<_, Option<i32>>("id")?.is_none() {
            continue;
        }
        let at = usize::try_from(row.try_get::<_, i64>("ord")? - 1).unwrap_or_default();
        if let Some(value) = values.get_mut(at) {
            value.push(Series::from_row(row)?);
        }
    }
    Ok(Loaded { values, snapshot })
}

/// The hours of several series: one statement, planned for the days that it is about.
async fn load_hours(pool: &Pool, keys: Vec<HourKey>, max: i64) -> Result<Loaded<Hour>> {
    let ids: Vec<i32> = keys.iter().map(|key| key.series_id).collect();
    let starts: Vec<_> = keys
        .iter()
        .map(|key| time(key.hour.saturating_mul(HOUR)))
        .collect();
    let first = keys.iter().map(|key| key.hour).min().unwrap_or_default();
    let last = keys.iter().map(|key| key.hour).max().unwrap_or_default();
    let (from, to) = (
        time(first.saturating_mul(HOUR)),
        time((last + 1).saturating_mul(HOUR)),
    );
    let connection = pool.get().await?;
    let (cold, rows) = cold::query(
        &connection,
        &queries::LOAD_HOURS,
        &[&ids, &starts, &from, &to, &(max + 1)],
        (from.timestamp_micros(), to.timestamp_micros()),
    )
    .await?;
    let snapshot = snapshot_of(&rows)?;
    let mut found: HashMap<i64, Hour> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let ord: i64 = row.try_get("ord")?;
        let start = usize::try_from(ord - 1).ok().and_then(|at| starts.get(at));
        let is_cold = start.is_some_and(|start| cold::has_day(&cold, *start));
        if !is_cold {
            found.insert(ord, hour_of(row, max)?);
        }
    }
    let values = (1..=keys.len())
        .map(|ord| {
            found
                .remove(&i64::try_from(ord).unwrap_or_default())
                .unwrap_or_default()
        })
        .collect();
    Ok(Loaded { values, snapshot })
}

fn hour_of(row: &Row, max: i64) -> Result<Hour> {
    let times: Option<Vec<DateTime<Utc>>> = row.try_get("times")?;
    let values: Option<Vec<f64>> = row.try_get("values")?;
    let metadata: Option<Vec<Option<String>>> = row.try_get("metadata")?;
    let times = times.unwrap_or_default();
    let is_kept: bool = row.try_get("is_kept")?;
    if !is_kept || i64::try_from(times.len()).unwrap_or(i64::MAX) > max {
        return Ok(Hour::default());
    }
    let mut metadata = metadata.unwrap_or_default().into_iter();
    let samples = times
        .into_iter()
        .zip(values.unwrap_or_default())
        .map(|(at, value)| {
            Sample(
                at.timestamp_micros(),
                value,
                metadata.next().flatten().map(Into::into),
            )
        })
        .collect();
    Ok(Hour {
        samples: Some(samples),
        rendered: OnceLock::new(),
    })
}

/// A time of so many microseconds; what no calendar has becomes its end.
pub(super) fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
