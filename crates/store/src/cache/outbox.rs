//! The database's own record of what changed: reading what is new in it, and emptying it.
//!
//! # Why nothing is missed
//!
//! A process keeps the snapshot P of its last poll and asks for what is not visible in P: what began after it, and what
//! was in progress. Neither a sequence nor a time
//! nor a lower bound of transactions is a cursor: a transaction may commit long after it wrote, and one that stays open
//! would hold up all others. With the snapshot, each row is new exactly once, in the poll that first sees it.
//!
//! One thing a snapshot cannot know: a transaction that ended without a trace in the log (a rollback) may have its number
//! given again after a crash of the server, and P would take the new one for seen. Its rows have higher ids than every row
//! that was ever visible, so the poll asks for those, too.
//!
//! Rows are deleted when they have been visible for `cache.outbox_seconds`. Which ones is told by a snapshot that
//! was taken so long ago, and every poll reads it: a process whose P does not include it may have missed a row and
//! begins its caches anew. No clocks are compared for that.
//!
//! A database that was restored into another cluster brings rows and a horizon whose transactions this cluster has still to
//! come to. No row that can be seen has a transaction at or above the end of the snapshot that sees it: such rows are
//! passed over and deleted, and such a horizon says nothing. A database that was put back to an earlier state under the same
//! identity sees less than P did: then nothing is known, either.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::types::Type;

use crate::{
    db::{self, Dedicated, Pool, Snapshot, Statement},
    error::{Error, Result},
};

/// How many changes one poll takes one by one; more are answered with a new generation of all values.
pub(super) const MAX_CHANGES: usize = 50_000;

/// How many rows are deleted by one statement.
const DELETE_BATCH: i64 = 10_000;

/// What is new since a snapshot; one row without an id where nothing is.
pub const POLL: Statement = Statement {
    name: "cache.poll",
    sql: "select s.snapshot::text as snapshot, s.asked_at, h.deleted_snapshot, h.tableoid::int8 as horizon_oid,
                 o.id, o.kind, o.key, o.written_at
          from (select pg_current_snapshot() as snapshot, clock_timestamp() as asked_at) s
          cross join cache_outbox_horizon h
          left join lateral (
              (select id, kind, key, written_at from cache_outbox
               where x >= pg_snapshot_xmax($1::text::pg_snapshot) and x < pg_snapshot_xmax(s.snapshot) limit $3)
              union
              (select id, kind, key, written_at from cache_outbox
               where x = any (array(select pg_snapshot_xip($1::text::pg_snapshot))) limit $3)
              union
              (select id, kind, key, written_at from cache_outbox
               where id > $2 and x < pg_snapshot_xmax(s.snapshot) limit $3)) o on true
          order by o.id",
    params: &[Type::TEXT, Type::INT8, Type::INT8],
    columns: &[
        ("snapshot", Type::TEXT),
        ("asked_at", Type::TIMESTAMPTZ),
        ("deleted_snapshot", Type::TEXT),
        ("horizon_oid", Type::INT8),
        ("id", Type::INT8),
        ("kind", Type::TEXT),
        ("key", Type::TEXT),
        ("written_at", Type::TIMESTAMPTZ),
    ],
};

/// Where a process begins that has seen nothing yet.
pub const BEGIN: Statement = Statement {
    name: "cache.begin",
    sql: "select pg_current_snapshot()::text as snapshot, coalesce(max(id), 0) as last_id from cache_outbox",
    params: &[],
    columns: &[("snapshot", Type::TEXT), ("last_id", Type::INT8)],
};

/// Which database this is: another one, also the same one restored or promoted, gives another answer.
pub const INCARNATION: Statement = Statement {
    name: "cache.incarnation",
    sql: "select concat_ws('-', (select system_identifier from pg_control_system()),
              left(pg_walfile_name(pg_current_wal_lsn()), 8),
              (select oid from pg_database where datname = current_database()),
              'cache_outbox_horizon'::regclass::oid) as incarnation,
              'cache_outbox_horizon'::regclass::oid::int8 as horizon_oid",
    params: &[],
    columns: &[("incarnation", Type::TEXT), ("horizon_oid", Type::INT8)],
};

/// What was marked long enough ago is deleted next, and what is visible now is marked.
pub const MARK: Statement = Statement {
    name: "cache.mark_outbox",
    sql: "update cache_outbox_horizon
          set deleted_snapshot = marked_snapshot, deleted_id = marked_id,
              marked_snapshot = pg_current_snapshot()::text,
              marked_id = (select coalesce(max(id), 0) from cache_outbox), marked_at = $1
          where marked_at <= $2 or marked_at - interval '1 minute' > $1", // a clock that went back must not stop it
    params: &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Deletes some of what may go.
pub const DELETE: Statement = Statement {
    name: "cache.empty_outbox",
    sql: "delete from cache_outbox where id in (
              (select o.id from cache_outbox o, cache_outbox_horizon h
               where o.x < pg_snapshot_xmax(h.deleted_snapshot::pg_snapshot)
                 and pg_visible_in_snapshot(o.x, h.deleted_snapshot::pg_snapshot) and o.id <= h.deleted_id
               limit $1)
              union all
              (select id from cache_outbox where x >= pg_snapshot_xmax(pg_current_snapshot()) limit $1))",
    params: &[Type::INT8],
    columns: &[],
};

/// Every statement.
pub const ALL: &[&Statement] = &[&POLL, &BEGIN, &INCARNATION, &MARK, &DELETE];

/// How far a process has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub snapshot: Snapshot,
    pub last_id: i64,
}

/// One change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub kind: String,
    /// `None`: all values of the kind.
    pub key: Option<String>,
    /// How old the change was when the database was asked, by its own clock.
    pub age: Duration,
}

/// What a poll found.
#[derive(Debug)]
pub(super) struct News {
    pub cursor: Cursor,
    /// `None`: too many to tell, or some may have been deleted unseen.
    pub changes: Option<Vec<Change>>,
}

/// Where to begin.
pub(super) async fn begin(connection: &Dedicated) -> Result<Cursor> {
    let statement = connection.prepare_typed(BEGIN.sql, BEGIN.params).await?;
    let row = connection.query_one(&statement, &[]).await?;
    Ok(Cursor {
        snapshot: row.try_get::<_, &str>("snapshot")?.parse()?,
        last_id: row.try_get("last_id")?,
    })
}

/// Which database a connection leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Incarnation {
    /// Its name in keys.
    pub name: String,
    /// The horizon's table, which is another one after a restore into the same database.
    horizon_oid: i64,
}

/// Asks which database the connection leads to.
pub(super) async fn incarnation(connection: &Dedicated) -> Result<Incarnation> {
    let row = connection.query_one(INCARNATION.sql, &[]).await?;
    Ok(Incarnation {
        name: row.try_get("incarnation")?,
        horizon_oid: row.try_get("horizon_oid")?,
    })
}

/// Everything that became visible since `cursor`.
pub(super) async fn poll(
    connection: &Dedicated,
    prepared: &tokio_postgres::Statement,
    incarnation: &Incarnation,
    cursor: &Cursor,
) -> Result<News> {
    let limit = i64::try_from(MAX_CHANGES + 1).unwrap_or(i64::MAX);
    let since = cursor.snapshot.to_string();
    let rows = connection
        .query(prepared, &[&since, &cursor.last_id, &limit])
        .await?;
    let first = rows
        .first()
        .ok_or_else(|| Error::internal("cache_outbox_horizon has lost its row"))?;
    if first.try_get::<_, i64>("horizon_oid")? != incarnation.horizon_oid {
        return Err(Error::unavailable(
            "database_restored",
            "the outbox is another table than before: the database was restored",
        ));
    }
    let snapshot: Snapshot = first.try_get::<_, &str>("snapshot")?.parse()?;
    let deleted: Snapshot = first.try_get::<_, &str>("deleted_snapshot")?.parse()?;
    let asked_at: DateTime<Utc> = first.try_get("asked_at")?;
    let mut changes = Vec::new();
    let mut last_id = cursor.last_id;
    for row in &rows {
        let Some(id) = row.try_get::<_, Option<i64>>("id")? else {
            break;
        };
        last_id = last_id.max(id);
        let written_at: DateTime<Utc> = row.try_get("written_at")?;
        changes.push(Change {
            kind: row.try_get("kind")?,
            key: row.try_get("key")?,
            age: (asked_at - written_at).to_std().unwrap_or_default(),
        });
    }
    let may_have_missed = !deleted.is_beyond(&snapshot) && !cursor.snapshot.includes(&deleted);
    let went_back = !snapshot.includes(&cursor.snapshot);
    let all_are_known = changes.len() <= MAX_CHANGES && !may_have_missed && !went_back;
    Ok(News {
        cursor: Cursor { snapshot, last_id },
        changes: all_are_known.then_some(changes),
    })
}

/// Deletes what every process has had `keep` to read; gives how many rows went.
pub(super) async fn empty(pool: &Pool, keep: TimeDelta, now: DateTime<Utc>) -> Result<u64> {
    let client = pool.get().await?;
    // Told before it is done, and committed: a poll that finds rows missing also finds that they may be.
    db::execute(&client, &MARK, &[&now, &(now - keep)]).await?;
    let mut gone = 0;
    loop {
        let deleted = db::execute(&client, &DELETE, &[&DELETE_BATCH]).await?;
        gone += deleted;
        if deleted == 0 {
            return Ok(gone);
        }
    }
}
