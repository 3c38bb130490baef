//! Reads that go to replicas (hot standbys) where these answer just what the primary would.
//!
//! # What it guarantees
//!
//! * **A read shows everything that was committed before it began**, whoever wrote it (this process, another one, psql) and
//!   whichever server answers. No caller has to say what it wrote, and nothing has to be remembered for it: reading one's own
//!   write, reading never backwards and the cache's second are all special cases.
//! * **Replicas are never needed.** One that is away, behind, promoted, or of another database costs a read at most
//!   `database.replica_patience_milliseconds`, and then no read for a moment; the primary answers.
//! * **A read that fails on a replica is made again on the primary**: a replica ends statements that stand in the way of what it
//!   has to replay. All that runs here only reads.
//!
//! # The argument
//!
//! The primary's write-ahead log is one line on which every commit has its place, and a replica shows exactly the commits up to
//! the place that it has replayed. So a read asks the primary how far its log is *after it began*, and a replica how far it has
//! replayed, on the very connection that it will use:
//!
//! ```text
//! writer:   commits (log at 70), is answered
//! reader:                                     begins ─► primary: 72 ─► replica: 69 … 73 ─► reads
//! ```
//!
//! A commit that was answered before the read began is in the log up to its place, since it was flushed; so the place that is asked
//! for later lies beyond it. This is the *read index* of Raft (Ongaro, 2014, section 6.4), with the log of PostgreSQL.
//!
//! One question serves all reads that wait: who comes while one is under way waits for the next, which begins after it
//! came ([`Index`]). So the primary is asked once at a time, however many read, on a connection beside the pool, since a pool
//! that has run out is when replicas help most. The question is a few microseconds' work.
//!
//! *The same connection*: a replica that was killed and comes back may show an earlier place than before. A connection does not
//! survive that, so what it was asked holds for what it reads.
//!
//! *The same log*: places are comparable within one cluster and one history of it. A server that was left behind at a failover has
//! places that the new primary gave to other commits. So the replica's checkpoint must be of the primary's present timeline, its
//! system identifier and the database's number the same, and it must be a replica still. After a failover a replica is used
//! again from its next restart point on (`checkpoint_timeout`, 5 minutes by default).
//!
//! What is cached is read from the primary: the numbers of transactions that a replica gives for its snapshots leave out
//! those in progress, by which the cache judges what it holds.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use tokio_postgres::{Row, types::Type};

use super::{Connection, Params, Pool, Statement, pool::PoolSnapshot, query, query_one};
use crate::{
    config::{DatabaseSettings, DatabaseUrl, SecretUrls},
    error::{Error, Result},
};

/// For how long a replica that was behind is left alone.
const BEHIND_PAUSE: Duration = Duration::from_millis(500);

/// For how long one that failed otherwise is.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between two questions of a replica.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// How far the primary's log is, and which log it is.
///
/// Where commits are answered before they are flushed, they are in the log all the same, which a replica then gets later.
const ASK_PRIMARY: Statement = Statement {
    name: "replica.ask_primary",
    sql: "select (l.lsn - '0/0')::bigint as position, ('x' || left(pg_walfile_name(l.lsn), 8))::bit(32)::bigint as timeline,
                 (select system_identifier from pg_control_system()) as system,
                 (select oid from pg_database where datname = current_database()) as database
          from (select case current_setting('synchronous_commit') when 'off' then pg_current_wal_insert_lsn()
                                                                 else pg_current_wal_flush_lsn() end as lsn) l",
    params: &[],
    columns: &[
        ("position", Type::INT8),
        ("timeline", Type::INT8),
        ("system", Type::INT8),
        ("database", Type::OID),
    ],
};

/// How far a replica has replayed, and what. Nothing where it is none.
const ASK_REPLICA: Statement = Statement {
    name: "replica.ask_replica",
    sql: "select case when pg_is_in_recovery() then (pg_last_wal_replay_lsn() - '0/0')::bigint end as position,
                 (select timeline_id::bigint from pg_control_checkpoint()) as timeline,
                 (select system_identifier from pg_control_system()) as system,
                 (select oid from pg_database where datname = current_database()) as database",
    params: &[],
    columns: &[
        ("position", Type::INT8),
        ("timeline", Type::INT8),
        ("system", Type::INT8),
        ("database", Type::OID),
    ],
};

/// Every statement of this module.
pub const ALL: &[&Statement] = &[&ASK_PRIMARY, &ASK_REPLICA];

/// Which log, of which database in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Log {
    timeline: i64,
    system: i64,
    database: u32,
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    log: Log,
    position: i64,
}

impl Place {
    /// `None` where a replica is none any more.
    fn from_row(row: &Row) -> Result<Option<Self>> {
        let Some(position) = row.try_get("position")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            log: Log {
                timeline: row.try_get("timeline")?,
                system: row.try_get("system")?,
                database: row.try_get("database")?,
            },
            position,
        }))
    }
}

/// How far the primary's log was, no earlier than when it was asked.
#[derive(Debug)]
struct Index {
    pool: Pool,
    /// How many questions were begun.
    begun: AtomicU64,
    /// Who asks, with the last answer and its question's number.
    turn: Mutex<Option<(u64, Place)>>,
}

impl Index {
    async fn now(&self) -> Result<Place> {
        let before = self.begun.load(Relaxed);
        let mut turn = self.turn.lock().await;
        // Begun by somebody who waited for the same turn, after this one came.
        if let Some((number, place)) = *turn
            && number > before
        {
            return Ok(place);
        }
        let connection = self.pool.take().await?;
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        let row = query_one(&connection, &ASK_PRIMARY, &[]).await?;
        let place =
            Place::from_row(&row)?.ok_or_else(|| Error::internal("a log without an end"))?;
        *turn = Some((number, place));
        Ok(place)
    }
}

/// What the connections of one replica pass.
#[derive(Debug)]
pub(super) struct Gate {
    index: Arc<Index>,
    patience: Duration,
    /// How many bytes it was behind when it was last asked.
    behind: Arc<AtomicI64>,
}

impl Gate {
    /// The connection, when it shows all that was committed before this began.
    pub(super) async fn pass(
        &self,
        connection: impl Future<Output = Result<Connection>>,
    ) -> Result<Connection> {
        let passing = async {
            let (wanted, connection) = tokio::try_join!(self.index.now(), connection)?;
            let mut pause = FIRST_PAUSE;
            loop {
                let row = query_one(&connection, &ASK_REPLICA, &[]).await?;
                let there = Place::from_row(&row)?.filter(|there| there.log == wanted.log);
                let Some(there) = there else {
                    return Err(not_a_replica());
                };
                let behind = wanted.position.saturating_sub(there.position).max(0);
                self.behind.store(behind, Relaxed);
                if behind == 0 {
                    return Ok(connection);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let passed = tokio::time::timeout(self.patience, passing).await;
        passed.unwrap_or_else(|_| Err(behind()))
    }
}

fn behind() -> Error {
    Error::unavailable(
        "replica_behind",
        "a replica had not what the primary had in time; the primary answers",
    )
}

fn not_a_replica() -> Error {
    Error::unavailable(
        "not_a_replica",
        "a server of database.read_urls is no replica of the primary's database and its present history; the primary answers",
    )
}

/// One replica.
#[derive(Debug)]
struct Replica {
    name: String,
    pool: Pool,
    behind: Arc<AtomicI64>,
    /// Until when it is left alone, in milliseconds since the process opened it.
    rests_until: AtomicU64,
    served: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
}

/// How a replica fares.
#[derive(Debug, Clone)]
pub struct ReplicaSnapshot {
    /// Host, port and database, without who connects.
    pub name: String,
    /// Whether reads are sent to it now.
    pub in_use: bool,
    /// How many bytes of the log it lacked when it was last asked.
    pub behind_bytes: i64,
    /// Reads that it answered.
    pub served_total: u64,
    /// Reads that the primary answered because it was behind.
    pub late_total: u64,
    /// Reads that the primary answered because it failed.
    pub failed_total: u64,
    /// Its connections.
    pub pool: PoolSnapshot,
}

/// A read under way.
pub type Reading<'r, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'r>>;

/// Where reads go. Clones share everything.
#[derive(Debug, Clone)]
pub struct Reads {
    primary: Pool,
    replicas: Arc<[Replica]>,
    opened: Instant,
    next: Arc<AtomicUsize>,
}

impl Reads {
    /// Reads of the primary's pool and of the replicas of `database.read_urls`.
    pub fn open(primary: &Pool, settings: &DatabaseSettings) -> Result<Self> {
        let urls = settings
            .read_urls
            .as_ref()
            .map_or(&[][..], SecretUrls::as_slice);
        let patience = Duration::from_millis(settings.replica_patience_milliseconds);
        let mut replicas = Vec::with_capacity(urls.len());
        if !urls.is_empty() {
            let index = Arc::new(Index {
                pool: Pool::open(&DatabaseSettings {
                    pool_min: 1,
                    pool_max: 1,
                    ..settings.clone()
                })?,
                begun: AtomicU64::new(0),
                turn: Mutex::new(None),
            });
            for url in urls {
                let behind = Arc::new(AtomicI64::new(0));
                let gate = Gate {
                    index: Arc::clone(&index),
                    patience,
                    behind: Arc::clone(&behind),
                };
                let pool = Pool::open(&DatabaseSettings {
                    url: Some(url.clone()),
                    ..settings.clone()
                })?;
                replicas.push(Replica {
                    name: DatabaseUrl::parse(url.expose(), "database.read_urls")?.place(),
                    pool: pool.behind(gate),
                    behind,
                    rests_until: AtomicU64::new(0),
                    served: AtomicU64::new(0),
                    late: AtomicU64::new(0),
                    failed: AtomicU64::new(0),
                });
            }
        }
        Ok(Self {
            primary: primary.clone(),
            replicas: replicas.into(),
            opened: Instant::now(),
            next: Arc::new(AtomicUsize::new(0)),
        })
    }

    /// Reads, from a replica or from the primary. `read` takes its connections from the pool that it is given and changes
    /// nothing; where a replica fails, it is called again.
    pub async fn run<'a, 'r, T>(
        &'a self,
        read: impl Fn(&'a Pool) -> Reading<'r, T> + Sync,
    ) -> Result<T> {
        if let Some(replica) = self.choose() {
            match read(&replica.pool).await {
                Err(error) if is_the_servers(&error) => self.leave(replica, &error),
                answer => {
                    replica.served.fetch_add(1, Relaxed);
                    return answer;
                }
            }
        }
        read(&self.primary).await
    }

    /// One statement that reads.
    pub async fn query(&self, statement: &Statement, params: Params<'_>) -> Result<Vec<Row>> {
        let read = |pool| -> Reading<'_, _> {
            Box::pin(async move { query(&Pool::get(pool).await?, statement, params).await })
        };
        self.run(read).await
    }

    /// How each replica fares.
    pub fn snapshot(&self, now: DateTime<Utc>) -> Vec<ReplicaSnapshot> {
        let of = |replica: &Replica| ReplicaSnapshot {
            name: replica.name.clone(),
            in_use: self.is_in_use(replica),
            behind_bytes: replica.behind.load(Relaxed),
            served_total: replica.served.load(Relaxed),
            late_total: replica.late.load(Relaxed),
            failed_total: replica.failed.load(Relaxed),
            pool: replica.pool.snapshot(now),
        };
        self.replicas.iter().map(of).collect()
    }

    /// One after the other, but those that rest.
    fn choose(&self) -> Option<&Replica> {
        let count = self.replicas.len();
        let first = match count {
            0 => return None,
            _ => self.next.fetch_add(1, Relaxed),
        };
        let turn = (0..count).map(|step| &self.replicas[first.wrapping_add(step) % count]);
        turn.into_iter().find(|replica| self.is_in_use(replica))
    }

    fn is_in_use(&self, replica: &Replica) -> bool {
        replica.rests_until.load(Relaxed) <= self.milliseconds()
    }

    fn leave(&self, replica: &Replica, error: &Error) {
        let (count, pause) = match error.code() {
            "replica_behind" => (&replica.late, BEHIND_PAUSE),
            // It has too much to do, or something stood in its way: the next read may be luckier.
            "pool_exhausted" | "internal" => (&replica.failed, Duration::ZERO),
            _ => (&replica.failed, FAILED_PAUSE),
        };
        count.fetch_add(1, Relaxed);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let until = self.milliseconds().saturating_add(pause);
        replica.rests_until.fetch_max(until, Relaxed);
        tracing::debug!(replica = replica.name, %error, "the primary answers for a replica");
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether another server may have another answer: not where the caller, the data or another part is the cause, and not where the
/// statement took too long, as it would there.
fn is_the_servers(error: &Error) -> bool {
    match error.code() {
        "database_timeout" => false,
        "replica_behind" | "not_a_replica" | "pool_exhausted" | "internal" | "schema_mismatch" => {
            true
        }
        code => code.starts_with("database_"),
    }
}
