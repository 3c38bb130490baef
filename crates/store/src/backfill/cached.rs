//! Jobs through the cache: one job, and the newest jobs of a type or of all.
//!
//! What is read here is at most a second old, and shows at once what was written through the same process (see
//! [`crate::cache`]). What decides something reads the database itself.

use std::{borrow::Cow, sync::Arc};

use uuid::Uuid;

use super::{Backfill, Job, JobFilter, queries};
use crate::{
    cache::{Cache, Cached, Key, Kind, Loaded, Space, Stale},
    db::{self, Pool, Snapshot},
    error::{Error, Result},
    measure::Meter,
};

/// How many of the newest jobs are kept for each type; more, or others, are read from the database.
pub const LATEST: i64 = 10;

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobKey(pub Uuid);

/// The newest jobs of a type; without one, of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LatestKey(pub Option<String>);

/// The name of jobs in the outbox, whose key is then `<id> <type>`.
const CHANGED: &str = "backfill_job";

impl Key for JobKey {
    type Value = Option<Job>;
    const KIND: Kind = Kind::BackfillJob;

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.to_string())
    }

    fn is_worth_sharing(job: &Option<Job>) -> bool {
        job.is_some()
    }

    fn stale(kind: &str, key: Option<&str>) -> Stale<Self> {
        if kind != CHANGED {
            return Stale::Nothing;
        }
        let id = key.and_then(|key| key.split(' ').next()?.parse().ok());
        id.map_or(Stale::All, |id| Stale::Keys(vec![Self(id)]))
    }
}

impl Key for LatestKey {
    type Value = Vec<Job>;
    const KIND: Kind = Kind::BackfillLatest;

    fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Some(job_type) => Cow::Owned(format!("type:{job_type}")),
            None => Cow::Borrowed("all"),
        }
    }

    fn is_worth_sharing(jobs: &Vec<Job>) -> bool {
        !jobs.is_empty()
    }

    fn stale(kind: &str, key: Option<&str>) -> Stale<Self> {
        if kind != CHANGED {
            return Stale::Nothing;
        }
        match key.and_then(|key| key.split_once(' ')) {
            Some((_, job_type)) => Stale::Keys(vec![Self(None), Self(Some(job_type.to_owned()))]),
            None => Stale::All,
        }
    }
}

/// The cached jobs of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct JobCaches {
    jobs: Space<JobKey>,
    latest: Space<LatestKey>,
}

impl JobCaches {
    /// Over this cache, filled from this pool.
    pub fn new(cache: &Cache, pool: &Pool) -> Self {
        let (for_jobs, for_latest) = (pool.clone(), pool.clone());
        Self {
            jobs: cache.space(Arc::new(move |keys| {
                let pool = for_jobs.clone();
                Box::pin(async move { pool.measured(Meter::JobRead, load_jobs(&pool, keys)).await })
            })),
            latest: cache.space(Arc::new(move |keys| {
                let pool = for_latest.clone();
                Box::pin(async move {
                    pool.measured(Meter::JobRead, load_latest(&pool, keys))
                        .await
                })
            })),
        }
    }
}

async fn load_jobs(pool: &Pool, keys: Vec<JobKey>) -> Result<Loaded<Option<Job>>> {
    let ids: Vec<Uuid> = keys.into_iter().map(|key| key.0).collect();
    let client = pool.get().await?;
    let rows = db::query(&client, &queries::GET_MANY, &[&ids]).await?;
    let values = rows
        .iter()
        .map(|row| {
            let is_there = row.try_get::<_, Option<Uuid>>("id")?.is_some();
            is_there.then(|| Job::from_row(row)).transpose()
        })
        .collect::<Result<_>>()?;
    Ok(Loaded {
        values,
        snapshot: snapshot(rows.first())?,
    })
}

async fn load_latest(pool: &Pool, keys: Vec<LatestKey>) -> Result<Loaded<Vec<Job>>> {
    let client = pool.get().await?;
    let mut values = Vec::with_capacity(keys.len());
    let mut first = None;
    for LatestKey(job_type) in keys {
        let rows = match &job_type {
            None => db::query(&client, &queries::LATEST, &[&LATEST]).await?,
            Some(job_type) => {
                db::query(&client, &queries::LATEST_OF_TYPE, &[&LATEST, job_type]).await?
            }
        };
        // The first snapshot sees the least: every value shows at least that.
        if first.is_none() {
            first = Some(snapshot(rows.first())?);
        }
        let jobs = rows
            .iter()
            .filter(|row| matches!(row.try_get::<_, Option<Uuid>>("id"), Ok(Some(_))));
        values.push(jobs.map(Job::from_row).collect::<Result<_>>()?);
    }
    let snapshot = first.ok_or_else(|| Error::internal("no jobs were asked for"))?;
    Ok(Loaded { values, snapshot })
}

fn snapshot(row: Option<&tokio_postgres::Row>) -> Result<Snapshot> {
    let row = row.ok_or_else(|| Error::internal("a load gave no row"))?;
    row.try_get::<_, &str>("snapshot")?.parse()
}

impl Backfill<'_> {
    /// One job, at most a second late.
    pub async fn recent(&self, id: Uuid) -> Result<Arc<Cached<Option<Job>>>> {
        self.caches.jobs.get(&JobKey(id), None).await
    }

    /// Jobs, newest start first, at most a second late. Only the newest [`LATEST`] without a condition on their status
    /// are cached; the rest comes from the database.
    pub async fn recent_list(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        if filter.status.is_some() || filter.offset != 0 || filter.limit > LATEST {
            return self.list(filter).await;
        }
        let key = LatestKey(filter.job_type.clone());
        let latest = self.caches.latest.get(&key, None).await?;
        let limit = usize::try_from(filter.limit).unwrap_or_default();
        Ok(latest.value.iter().take(limit).cloned().collect())
    }

    /// Notes, when it is dropped, that a job was written: to be made first in every call that writes one, so that it is
    /// dropped after the commit, also where the outcome is not known.
    pub(super) fn noting(&self, id: Option<Uuid>) -> Noting<'_> {
        Noting {
            caches: self.caches,
            id,
        }
    }
}

/// See [`Backfill::noting`].
pub(super) struct Noting<'a> {
    caches: &'a JobCaches,
    /// `None` for a job that nobody can have read yet.
    id: Option<Uuid>,
}

impl Noting<'_> {
    /// Names the job when it is known.
    pub(super) fn is_of(&mut self, id: Uuid) {
        self.id = Some(id);
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.caches.jobs.wrote(&JobKey(id));
        }
        self.caches.latest.wrote_all();
    }
}
