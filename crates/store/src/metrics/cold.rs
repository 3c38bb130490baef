//! Days whose samples are in cold storage, for whoever reads samples.
//!
//! # What it guarantees
//!
//! * **No sample is missed and none is read twice**, whatever is archived, restored or expires meanwhile.
//! * **Reads of days that are in the database never wait for the object store**, and go on while it is away.
//! * **Nothing is held back in the database while archives are read**: no transaction and no lock is open then.
//!
//! # How a read knows where a day is
//!
//! `metric_days` says it, and a day changes its state in the transaction that detaches or attaches its partition. But a
//! statement finds partitions in the newest catalogue and not in its snapshot, so that a state and samples that were read by
//! two statements, or even by one, need not belong together:
//!
//! ```text
//! reader:     reads the state: open                                reads samples: the partition is gone, a day is missing
//! retention:                          detaches, commits
//!
//! reader:     plans: no partition                                  takes its snapshot: the state is open, a day is missing
//! a restore:                          attaches, commits
//! ```
//!
//! So a read of samples is three statements of one transaction, sent in one flight ([`query`]):
//!
//! 1. It locks the parent in ACCESS SHARE. To detach, one needs ACCESS EXCLUSIVE: whoever detached before has committed, and
//!    until the read has ended nobody else does.
//! 2. It reads which days are cold. The snapshot is taken after the lock, so what was detached before is in it; and what is
//!    *open* in it has its partition, which stays.
//! 3. It reads samples. Those of open days are all there. To attach, one needs no lock that a reader is in the way of, so there
//!    may be samples of a day that step 2 found cold: they are *not used*. The day is read from its archive, which has the same.
//!
//! In a REPEATABLE READ transaction the same holds, since LOCK takes no snapshot: the first statement after it does.
//!
//! For a read of recent days this costs one look into an index of `metric_days`, and no round trip.
//!
//! # The archive
//!
//! It never changes, so it is read after the transaction, when nothing is locked. Until then it may have been restored, put back
//! or expired, and its object be gone. Then the state is looked up again, at most [`RETRIES`] times: it says where the samples
//! are now, or that there are none any more. An object that is missing although the state still names it is a fault, and is
//! told as one that is not the caller's (`cold_object_missing`, 503).

pub(super) mod parts;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::Row;

use super::{cached::time, queries};
use crate::{
    cold::{ColdStore, Fetched, ObjectKey, StoredObject},
    db::{self, Connection, Statement},
    error::{Error, Kind, Result},
};

/// How often a read looks again where a day is whose archive was gone.
pub(super) const RETRIES: u32 = 2;

/// How many archives are downloaded or searched at once in a process, whoever asks. Streams hold none of these places while
/// they wait for their readers.
const PLACES: usize = 4;

/// How long a further one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000;

/// A day that is read from its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColdDay {
    /// Its beginning, in microseconds.
    pub start: i64,
    pub object: StoredObject,
}

impl ColdDay {
    /// Its end.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(DAY)
    }

    /// From the columns object_key, bytes and sha256; `None` where there is no archive.
    pub fn from_row(row: &Row) -> Result<Option<Self>> {
        let Some(key) = row.try_get::<_, Option<&str>>("object_key")? else {
            return Ok(None);
        };
        let key = ObjectKey::parse(key)
            .ok_or_else(|| Error::internal("an archive whose key is none of ours"))?;
        let bytes: i64 = row.try_get("bytes")?;
        Ok(Some(Self {
            start: start_of(row.try_get("day")?),
            object: StoredObject {
                key,
                bytes: u64::try_from(bytes).unwrap_or_default(),
                sha256: row.try_get("sha256")?,
            },
        }))
    }
}

/// A day's beginning, in microseconds.
pub(super) fn start_of(day: NaiveDate) -> i64 {
    day.and_time(NaiveTime::MIN).and_utc().timestamp_micros()
}

/// The days that a range of microseconds touches, the last one included.
pub(super) fn days_of(from: i64, to: i64) -> (NaiveDate, NaiveDate) {
    let day = |at: i64| time(at).date_naive();
    (day(from), day(to.saturating_sub(1).max(from)))
}

/// Which days of a range are cold, the earliest first. In a transaction that holds the lock: see [the module](self).
pub(super) async fn days(connection: &Connection, from: i64, to: i64) -> Result<Vec<ColdDay>> {
    let (first, last) = days_of(from, to);
    let rows = db::query(connection, &queries::READ_COLD_DAYS, &[&first, &last]).await?;
    let days = rows
        .iter()
        .filter_map(|row| ColdDay::from_row(row).transpose());
    days.collect()
}

/// Samples of the database, from `from` and before `to`, and the days in this range that are to be read from their archives
/// instead: samples of these among the rows are not to be used. Planned for these very values; one round trip.
pub(super) async fn query(
    connection: &Connection,
    statement: &Statement,
    params: db::Params<'_>,
    (from, to): (i64, i64),
) -> Result<(Vec<ColdDay>, Vec<Row>)> {
    let of_days = &queries::READ_COLD_DAYS;
    // Prepared before: all the rest goes in one flight.
    connection
        .prepare_typed_cached(of_days.sql, of_days.params)
        .await?;
    let prepared = connection
        .prepare_typed_cached(statement.sql, statement.params)
        .await?;
    let (begun, cold, planned, rows, ended) = tokio::join!(
        biased;
        connection.batch_execute(queries::BEGIN_READ),
        days(connection, from, to),
        connection.batch_execute("set local plan_cache_mode = force_custom_plan"),
        db::traced(statement, async { Ok(connection.query(&prepared, params).await?) }),
        connection.batch_execute("commit"),
    );
    begun?;
    let cold = cold?;
    planned?;
    let rows = rows?;
    ended?;
    Ok((cold, rows))
}

/// The archives as readers of samples have them. Clones share the places.
#[derive(Debug, Clone)]
pub(super) struct ColdReads {
    store: Option<ColdStore>,
    places: Arc<Semaphore>,
}

impl ColdReads {
    pub fn new(store: Option<&ColdStore>) -> Self {
        Self {
            store: store.cloned(),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    /// A day's archive on this machine, downloaded now if need be, and a place to search it.
    pub async fn open(&self, day: &ColdDay) -> Result<(Fetched, SemaphorePermit<'_>)> {
        let store = self.store.as_ref().ok_or_else(|| {
            let day = time(day.start).date_naive();
            Error::unavailable(
                "no_cold_store",
                format!("the samples of {day} are in cold storage, and this process knows none: set cold.url"),
            )
        })?;
        let waiting = tokio::time::timeout(PATIENCE, self.places.acquire());
        let Ok(Ok(place)) = waiting.await else {
            return Err(Error::unavailable(
                "reads_busy",
                format!(
                    "{PLACES} archives are being read, which is as many as may; try again later"
                ),
            ));
        };
        Ok((store.fetch(&day.object).await?, place))
    }
}

/// How often an archive may still be gone.
#[derive(Debug)]
pub(super) struct Patience(u32);

impl Default for Patience {
    fn default() -> Self {
        Self(RETRIES)
    }
}

impl Patience {
    /// What was read of an archive; `None` where the archive was gone and it is to be looked up again where its day is.
    pub fn unless_gone<T>(&mut self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.code() != "cold_object_missing" => Err(error),
            Err(_) if self.0 > 0 => {
                self.0 -= 1;
                Ok(None)
            }
            Err(error) => Err(Error::new(
                Kind::Unavailable,
                "cold_object_missing",
                format!(
                    "{}, where it must be: an operator is to look for it (`archive verify`)",
                    error.message()
                ),
            )
            .with_source(error)),
        }
    }
}

/// Whether a day, by its beginning, is among cold days.
pub(super) fn has_day(days: &[ColdDay], at: DateTime<Utc>) -> bool {
    let at = at.timestamp_micros();
    days.iter().any(|day| (day.start..day.end()).contains(&at))
}
