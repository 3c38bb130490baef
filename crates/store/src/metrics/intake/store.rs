//! Storing rows: by COPY where nothing is in the way, and carefully where something is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    pin::pin,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::SinkExt as _;
use serde_json::value::RawValue;
use tokio_postgres::{error::SqlState, types::Json};

use super::{Inner, Load, RequestKey, Row, State, rows};
use crate::{
    db::{self, Connection, TransactionId},
    error::{Error, Result},
    metrics::{
        cached::{HOUR, HourKey, time},
        days::{self, Made},
        queries,
    },
    trace,
};

/// From so many samples of a day on they are copied; fewer are inserted together with those of other days.
const WORTH_A_COPY: usize = 64;

/// How often a write is begun anew.
const ATTEMPTS: usize = 6;

/// What a write did.
pub(super) struct Written {
    pub transaction: Option<TransactionId>,
    /// Whether places were taken already.
    pub met_taken: bool,
}

/// Why a write has to be begun anew.
enum Again {
    /// A place is taken, or two writers waited for each other: carefully.
    Carefully,
    /// A partition is not there.
    WithDays,
}

impl Inner {
    /// Stores rows in one transaction, and says of each what became of it.
    pub(super) async fn write(
        &self,
        connection: &Connection,
        rows: &mut [Row],
        identity: &str,
        now: DateTime<Utc>,
        is_careful: bool,
    ) -> Result<Written> {
        let mut is_careful = is_careful;
        let mut met_taken = false;
        let mut attempts = 1..=ATTEMPTS;
        loop {
            // Days first: what is not stored decides nothing about what is.
            self.make_days(connection, rows, now).await?;
            rows::settle(rows, || self.next_time(now.timestamp_micros()));
            let outcome = if is_careful {
                self.insert(connection, rows, identity).await
            } else {
                self.copy(connection, rows, identity).await
            };
            match outcome {
                Ok(transaction) => {
                    met_taken |= rows
                        .iter()
                        .any(|row| matches!(row.state, State::Duplicate | State::Conflict(_)));
                    return Ok(Written {
                        transaction,
                        met_taken,
                    });
                }
                Err(error) => {
                    // The error that was met, not that of the rollback, is the one to tell.
                    let _ = connection.batch_execute("rollback").await;
                    reset(rows);
                    match (again(&error), attempts.next()) {
                        (Some(_), None) | (None, _) => return Err(error),
                        (Some(Again::Carefully), _) => {
                            is_careful = true;
                            met_taken = true;
                        }
                        (Some(Again::WithDays), _) => self.days.clear(),
                    }
                }
            }
        }
    }

    /// Makes the partitions that this process has not seen yet. What is of an archived day is not stored.
    async fn make_days(
        &self,
        connection: &Connection,
        rows: &mut [Row],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let mut days: BTreeMap<i64, bool> = BTreeMap::new();
        for row in rows.iter() {
            days.entry(row.day()).or_insert(false);
        }
        for (number, is_archived) in &mut days {
            if self.days.has(*number) {
                continue;
            }
            let day = days::date_of(*number)
                .ok_or_else(|| Error::internal("a day that no calendar has"))?;
            match days::make(connection, day, now).await? {
                Made::Open(_) => self.days.add(*number),
                Made::Archived => *is_archived = true,
            }
        }
        let mut torn = BTreeSet::new();
        for row in rows.iter_mut() {
            if days.get(&row.day()) == Some(&true) {
                row.state = State::Archived;
                torn.extend(row.is_whole.then_some(row.load));
            }
        }
        for row in rows {
            if row.state == State::New && torn.contains(&row.load) {
                row.state = State::Withheld;
            }
        }
        Ok(())
    }

    /// Begins a transaction and refuses numbers of series that another table gave.
    async fn begin(&self, connection: &Connection, identity: &str, begin: &str) -> Result<()> {
        let found = tokio::join!(
            biased;
            connection.batch_execute(begin),
            db::query_one(connection, &queries::IDENTITY, &[]),
        );
        found.0?;
        let found: String = found.1?.try_get("identity")?;
        if found == identity {
            return Ok(());
        }
        self.registry.is_of(&found);
        self.days.clear();
        Err(Error::unavailable(
            "series_changed",
            "the database was restored or promoted meanwhile; send the request again",
        ))
    }

    /// The quick way: fails where any place is taken.
    async fn copy(
        &self,
        connection: &Connection,
        rows: &mut [Row],
        identity: &str,
    ) -> Result<Option<TransactionId>> {
        let new = |row: &&Row| row.state == State::New;
        if !rows.iter().any(|row| row.state == State::New) {
            return Ok(None);
        }
        self.begin(connection, identity, queries::BEGIN).await?;
        let mut few = Vec::new();
        for of_day in rows.chunk_by(|a, b| a.day() == b.day()) {
            let count = of_day.iter().filter(new).count();
            if count < WORTH_A_COPY {
                few.extend(of_day.iter().filter(new));
                continue;
            }
            let Some(day) = of_day.first().and_then(|row| days::date_of(row.day())) else {
                continue;
            };
            let copied = async {
                let statement = connection.prepare_cached(&queries::copy_into(day)).await?;
                let mut sink = pin!(connection.copy_in::<_, Bytes>(&statement).await?);
                sink.send(rows::encode(of_day.iter().filter(new))).await?;
                sink.finish().await?;
                Ok(())
            };
            trace::within(trace::statement("metrics.copy_samples"), copied).await?;
        }
        if !few.is_empty() && insert_new(connection, &few).await?.len() < few.len() {
            return Err(taken());
        }
        let transaction = commit(connection).await?;
        for row in rows.iter_mut().filter(|row| row.state == State::New) {
            row.state = State::Stored;
        }
        Ok(Some(transaction))
    }

    /// The careful way: stores what is not there, and says of the rest what is.
    async fn insert(
        &self,
        connection: &Connection,
        rows: &mut [Row],
        identity: &str,
    ) -> Result<Option<TransactionId>> {
        self.begin(connection, identity, queries::BEGIN_CAREFUL)
            .await?;
        self.insert_in_tx(connection, rows).await?;
        commit(connection).await.map(Some)
    }

    async fn insert_in_tx(&self, connection: &Connection, rows: &mut [Row]) -> Result<()> {
        loop {
            let stored = {
                let new: Vec<&Row> = rows.iter().filter(|row| row.state == State::New).collect();
                if new.is_empty() {
                    return Ok(());
                }
                insert_new(connection, &new).await?
            };
            for row in rows.iter_mut().filter(|row| row.state == State::New) {
                if stored.contains(&row.place()) {
                    row.state = State::Stored;
                }
            }
            let found = {
                let left: Vec<&Row> = rows.iter().filter(|row| row.state == State::New).collect();
                find_stored(connection, &left).await?
            };
            let mut is_found = false;
            for row in rows.iter_mut().filter(|row| row.state == State::New) {
                match found.get(&row.place()) {
                    // Another process has given the same time.
                    Some(_) if !row.is_timed => row.at = self.next_time(row.at + 1),
                    Some(value) => row.state = rows::against(row.value, *value),
                    None => continue,
                }
                is_found = true;
            }
            if !is_found && rows.iter().any(|row| row.state == State::New) {
                return Err(Error::internal(
                    "samples were neither stored nor there: does a trigger swallow rows?",
                ));
            }
            // Times that were moved may meet each other.
            rows::settle(rows, || self.next_time(0));
        }
    }

    /// A request with a key: what it stored, it stored once.
    pub(super) async fn write_request(
        &self,
        connection: &Connection,
        rows: &mut [Row],
        load: &Load,
        request: &RequestKey,
    ) -> Result<Option<TransactionId>> {
        let mut attempts = 1..=ATTEMPTS;
        loop {
            rows.sort_unstable_by_key(|row| row.index);
            let outcome = self.try_request(connection, rows, load, request).await;
            let error = match outcome {
                Ok(transaction) => return Ok(transaction),
                Err(error) => error,
            };
            let _ = connection.batch_execute("rollback").await;
            reset(rows);
            match (again(&error), attempts.next()) {
                (Some(_), Some(_)) => self.days.clear(),
                _ => return Err(error),
            }
        }
    }

    async fn try_request(
        &self,
        connection: &Connection,
        rows: &mut [Row],
        load: &Load,
        request: &RequestKey,
    ) -> Result<Option<TransactionId>> {
        let RequestKey {
            caller,
            key,
            digest,
        } = request;
        let kept = db::query_opt(connection, &queries::FIND_REQUEST, &[caller, key]).await?;
        let is_kept = kept.is_some();
        if let Some(kept) = kept {
            if kept.try_get::<_, &[u8]>("digest")? != digest.as_slice() {
                return Err(Error::conflict(
                    "idempotency_key_reused",
                    "this Idempotency-Key was sent with another body; take a new key for a new request",
                ));
            }
            let times: Vec<DateTime<Utc>> = kept.try_get("times")?;
            let untimed = rows.iter_mut().filter(|row| !row.is_timed);
            for (row, at) in untimed.zip(times) {
                row.at = at.timestamp_micros();
                // It is that sample again, and not to be moved.
                row.is_timed = true;
            }
        }
        self.make_days(connection, rows, load.now).await?;
        rows::settle(rows, || self.next_time(load.now.timestamp_micros()));
        self.begin(connection, &load.identity, queries::BEGIN_CAREFUL)
            .await?;
        self.insert_in_tx(connection, rows).await?;
        if !is_kept {
            rows.sort_unstable_by_key(|row| row.index);
            let times: Vec<DateTime<Utc>> = rows
                .iter()
                .filter(|row| !row.is_timed)
                .map(|row| time(row.at))
                .collect();
            let params: db::Params<'_> = &[caller, key, &digest.as_slice(), &times, &load.now];
            if db::execute(connection, &queries::KEEP_REQUEST, params).await? == 0 {
                // The same request was faster on another connection: this one is its replay.
                return Err(taken());
            }
        }
        commit(connection).await.map(Some)
    }

    /// Notes that hours of series were written: readers of this process see it at once.
    pub(super) fn note(&self, rows: &[Row]) {
        let mut last = None;
        for row in rows {
            let key = HourKey {
                series_id: row.series_id,
                hour: row.at.div_euclid(HOUR),
            };
            if last != Some(key) {
                self.caches.hours.wrote(&key);
                last = Some(key);
            }
        }
    }
}

/// A series and a time.
type Place = (i32, i64);

async fn insert_new(connection: &Connection, rows: &[&Row]) -> Result<HashSet<Place>> {
    let ids: Vec<i32> = rows.iter().map(|row| row.series_id).collect();
    let times: Vec<DateTime<Utc>> = rows.iter().map(|row| time(row.at)).collect();
    let values: Vec<f64> = rows.iter().map(|row| row.value).collect();
    let metadata = rows
        .iter()
        .map(|row| {
            row.metadata
                .as_deref()
                .map(serde_json::from_str::<&RawValue>)
                .transpose()
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            Error::internal("metadata that was checked is no JSON").with_source(error)
        })?;
    let metadata: Vec<Option<Json<&RawValue>>> =
        metadata.into_iter().map(|raw| raw.map(Json)).collect();
    let stored = db::query(
        connection,
        &queries::INSERT,
        &[&ids, &times, &values, &metadata],
    )
    .await?;
    stored.iter().map(place).collect()
}

async fn find_stored(connection: &Connection, rows: &[&Row]) -> Result<HashMap<Place, f64>> {
    let (Some(first), Some(last)) = (
        rows.iter().map(|row| row.at).min(),
        rows.iter().map(|row| row.at).max(),
    ) else {
        return Ok(HashMap::new());
    };
    let ids: Vec<i32> = rows.iter().map(|row| row.series_id).collect();
    let times: Vec<DateTime<Utc>> = rows.iter().map(|row| time(row.at)).collect();
    let params: db::Params<'_> = &[&ids, &times, &time(first), &time(last)];
    let found = db::query(connection, &queries::FIND_STORED, params).await?;
    found
        .iter()
        .map(|row| Ok((place(row)?, row.try_get("value")?)))
        .collect()
}

fn place(row: &tokio_postgres::Row) -> Result<Place> {
    let at: DateTime<Utc> = row.try_get("sampled_at")?;
    Ok((row.try_get("series_id")?, at.timestamp_micros()))
}

async fn commit(connection: &Connection) -> Result<TransactionId> {
    // Prepared before, or it would come after the commit.
    let asked = &queries::TRANSACTION;
    connection
        .prepare_typed_cached(asked.sql, asked.params)
        .await?;
    let (transaction, committed) = tokio::join!(
        biased;
        db::query_one(connection, &queries::TRANSACTION, &[]),
        connection.batch_execute("commit"),
    );
    committed?;
    transaction?.try_get::<_, &str>("transaction")?.parse()
}

/// All over again; what was decided within the batch is decided again.
fn reset(rows: &mut [Row]) {
    for row in rows {
        row.state = State::New;
    }
}

/// Stands for a unique violation that no statement met.
fn taken() -> Error {
    Error::conflict("place_taken", "a sample is there already")
}

fn again(error: &Error) -> Option<Again> {
    if error.code() == "place_taken" {
        return Some(Again::Carefully);
    }
    match error.sql_state()? {
        &(SqlState::UNIQUE_VIOLATION
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE) => Some(Again::Carefully),
        &(SqlState::UNDEFINED_TABLE | SqlState::CHECK_VIOLATION) => Some(Again::WithDays),
        _ if days::is_archived(error) => Some(Again::WithDays),
        _ => None,
    }
}
