//! The connection pool (C6.1–C6.5).
//!
//! # What it guarantees
//!
//! * Between `pool_min` and `pool_max` connections, by load: queues are LIFO, so that the connections a quiet hour
//!   does not need stay untouched and age out; a FIFO pool hands all of them round and never shrinks.
//! * An idle connection is reused without a round trip (C6.2): a connection known to be closed is skipped, and
//!   `tcp_user_timeout` and keepalives find the half-open ones.
//! * Connecting, and only connecting, is retried (C6.4): a connection that was never made has done nothing, while a
//!   statement whose answer was lost may have taken effect and is never sent again behind the caller's back.
//! * A cancelled [`Pool::get`] leaks nothing: permits and half-made connections are given back on drop.
//!
//! deadpool has no minimum, idle limit or lifetime of its own; [`Pool::maintain`] adds them.

mod connect;
mod snapshot;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use deadpool_postgres::{
    Manager, ManagerConfig, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use tokio::task::JoinHandle;

pub use connect::ConnectCause;
pub(super) use connect::connect_error;
pub use snapshot::{PoolSnapshot, WaitHistogram};

use super::replica::Gate;
use crate::{
    config::DatabaseSettings,
    error::{Error, Kind, Result},
    measure::{Meter, Meters, UNANSWERED},
    trace,
};

/// A connection out of the pool; dropping it gives it back.
pub type Connection = deadpool_postgres::Client;

/// Counters that only grow; a [`PoolSnapshot`] copies them.
#[derive(Debug, Default)]
struct Counters {
    acquired: AtomicU64,
    timed_out: AtomicU64,
    created: AtomicU64,
    connect_retries: AtomicU64,
    /// Whether the last attempt to connect failed.
    failing: AtomicBool,
    connect_failures: [AtomicU64; ConnectCause::ALL.len()],
    closed_idle: AtomicU64,
    closed_aged: AtomicU64,
    wait: snapshot::WaitCounters,
    /// What the process measures about itself: here, since every slice has the pool.
    meters: Meters,
    /// When the pool's figures were last logged.
    logged: Mutex<Option<Instant>>,
}

/// The pool. Clones share it; its maintenance ends with the last of them.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
    counters: Arc<Counters>,
    limits: Limits,
    /// What a connection of a replica is asked before it is handed out.
    gate: Option<Arc<Gate>>,
    _maintenance: Arc<AbortOnDrop>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    min: usize,
    max: usize,
    idle_timeout: Duration,
    max_lifetime: Duration,
    acquire_timeout: Duration,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Makes the pool and starts its maintenance; connects in the background, so that a process can start and
    /// report itself not ready while the database is away.
    pub fn open(settings: &DatabaseSettings) -> Result<Self> {
        let login = connect::login(settings)?;
        let config = connect::client_config(&login, settings);
        let counters = Arc::new(Counters::default());
        let connector = connect::Connector::new(login, settings, Arc::clone(&counters));
        let manager = Manager::from_connect(
            config,
            connector,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let inner = deadpool_postgres::Pool::builder(manager)
            .max_size(settings.pool_max)
            .queue_mode(deadpool_postgres::QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                Error::internal("the connection pool could not be built").with_source(error)
            })?;
        let limits = Limits {
            min: settings.pool_min,
            max: settings.pool_max,
            idle_timeout: Duration::from_secs(settings.idle_timeout_seconds),
            max_lifetime: Duration::from_secs(settings.max_lifetime_seconds),
            acquire_timeout: Duration::from_millis(settings.acquire_timeout_milliseconds),
        };
        let every =
            (limits.idle_timeout / 10).clamp(Duration::from_millis(100), Duration::from_secs(10));
        let maintenance = tokio::spawn(maintain_forever(
            inner.clone(),
            Arc::clone(&counters),
            limits,
            every,
        ));
        Ok(Self {
            inner,
            counters,
            limits,
            gate: None,
            _maintenance: Arc::new(AbortOnDrop(maintenance)),
        })
    }

    /// The same pool, whose connections are handed out only once they pass.
    pub(super) fn behind(self, gate: Gate) -> Self {
        Self {
            gate: Some(Arc::new(gate)),
            ..self
        }
    }

    /// A connection: an idle one at once, a new one while fewer than the maximum exist, or the next one given back.
    ///
    /// Fails as `pool_exhausted` when none came free in time and as `database_unavailable` when none could be made.
    /// The time covers waiting and all attempts to connect.
    ///
    /// A replica's has then replayed all that the primary had committed when it was asked for; otherwise this fails as
    /// `replica_behind` or `not_a_replica`. See [`replica`](super::replica).
    pub async fn get(&self) -> Result<Connection> {
        trace::within(trace::step("pool.acquire"), self.acquire()).await
    }

    async fn acquire(&self) -> Result<Connection> {
        match &self.gate {
            None => self.take().await,
            // In a box: most pools have none, and need no room for it.
            Some(gate) => Box::pin(gate.pass(self.take())).await,
        }
    }

    /// As [`Self::get`], without asking what the connection shows.
    pub(super) async fn take(&self) -> Result<Connection> {
        let timeouts = Timeouts {
            wait: Some(self.limits.acquire_timeout),
            create: None,
            recycle: None,
        };
        let started = Instant::now();
        let got = tokio::time::timeout(
            self.limits.acquire_timeout,
            self.inner.timeout_get(&timeouts),
        )
        .await
        .unwrap_or(Err(PoolError::Timeout(TimeoutType::Wait)));
        match got {
            Ok(connection) => {
                self.counters.acquired.fetch_add(1, Relaxed);
                let waited = started.elapsed();
                self.counters.wait.record(waited);
                if deadpool_postgres::Object::metrics(&connection).recycle_count > 0 {
                    self.counters.meters.took(Meter::PoolReuse, waited);
                }
                Ok(connection)
            }
            Err(error) => Err(self.acquire_error(error)),
        }
    }

    fn acquire_error(&self, error: PoolError) -> Error {
        match error {
            PoolError::Timeout(_) => {
                self.counters.timed_out.fetch_add(1, Relaxed);
                // Those before this one in the queue could not connect either: that is what there is to mend.
                if self.counters.failing.load(Relaxed) {
                    return connect::unreachable();
                }
                Error::unavailable(
                    "pool_exhausted",
                    format!(
                        "no database connection came free within {} ms; send the request again later",
                        self.limits.acquire_timeout.as_millis()
                    ),
                )
            }
            PoolError::Backend(error) => connect::connect_error(error),
            other => Error::unavailable(
                "shutting_down",
                "the service is stopping; send the request again",
            )
            .with_source(other),
        }
    }

    /// What this process measures.
    pub fn meters(&self) -> &Meters {
        &self.counters.meters
    }

    /// Does something, and records how long it took. What failed because the service could not do it was not done in any time;
    /// what the caller is to blame for was answered.
    pub async fn measured<T>(
        &self,
        meter: Meter,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let done = work.await;
        match &done {
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Internal) => {
                self.meters().record(meter, UNANSWERED);
            }
            _ => self.meters().since(meter, began),
        }
        done
    }

    /// Records what is so at this moment: how many connections there are, and which are idle for longer than they may be. Nothing
    /// while none can be made: then the size says nothing about the pool.
    pub fn measure(&self) {
        if self.counters.failing.load(Relaxed) {
            return;
        }
        let size = self.inner.status().size;
        self.meters()
            .record(Meter::PoolSize, u64::try_from(size).unwrap_or(u64::MAX));
        // Closed by the next pass of maintenance, which comes at least every ten seconds.
        let allowed = self.limits.idle_timeout + Duration::from_secs(30);
        let mut idle = 0_usize;
        self.inner.retain(|_, metrics| {
            idle += usize::from(metrics.last_used() > allowed);
            true
        });
        let above = idle.min(size.saturating_sub(self.limits.min));
        self.meters().record(
            Meter::PoolIdleTooLong,
            u64::try_from(above).unwrap_or(u64::MAX),
        );
    }

    /// Writes the figures as one log line, and records when that was, unless the log's level keeps it out.
    pub fn log(&self, now: DateTime<Utc>) {
        self.snapshot(now).log();
        if !tracing::enabled!(target: "utxoiq_store::db::pool::snapshot", tracing::Level::INFO) {
            return;
        }
        let mut logged = self
            .counters
            .logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = logged.replace(Instant::now());
        let gap = last.map_or(Duration::ZERO, |last| last.elapsed());
        self.meters().record(Meter::PoolLog, gap.as_secs());
    }

    /// One pass of maintenance: closes connections idle or alive for too long, then makes the minimum up.
    pub async fn maintain(&self) {
        maintain(&self.inner, &self.counters, self.limits).await;
    }

    /// Closes every idle connection and refuses new requests.
    pub fn close(&self) {
        self.inner.close();
    }

    /// All figures of the pool at one moment.
    pub fn snapshot(&self, now: DateTime<Utc>) -> PoolSnapshot {
        let status = self.inner.status();
        let counters = &self.counters;
        let idle = status.available.min(status.size);
        PoolSnapshot {
            at: now,
            min: self.limits.min,
            max: self.limits.max,
            size: status.size,
            idle,
            active: status.size - idle,
            waiting: status.waiting,
            acquired_total: counters.acquired.load(Relaxed),
            timed_out_total: counters.timed_out.load(Relaxed),
            created_total: counters.created.load(Relaxed),
            closed_idle_total: counters.closed_idle.load(Relaxed),
            closed_aged_total: counters.closed_aged.load(Relaxed),
            connect_retries_total: counters.connect_retries.load(Relaxed),
            connect_failures: ConnectCause::ALL
                .iter()
                .zip(&counters.connect_failures)
                .map(|(cause, count)| (*cause, count.load(Relaxed)))
                .collect(),
            wait: counters.wait.snapshot(),
        }
    }
}

async fn maintain_forever(
    pool: deadpool_postgres::Pool,
    counters: Arc<Counters>,
    limits: Limits,
    every: Duration,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !pool.is_closed() {
        ticks.tick().await;
        maintain(&pool, &counters, limits).await;
    }
}

async fn maintain(pool: &deadpool_postgres::Pool, counters: &Counters, limits: Limits) {
    let mut size = pool.status().size;
    // The queue's front was given back longest ago, and is visited first. deadpool knows when a connection was last handed
    // out, not when it came back: the difference is a request's length, bounded by the statement timeout.
    pool.retain(|client, metrics| {
        let aged = metrics.age() > limits.max_lifetime;
        let idle = metrics.last_used() > limits.idle_timeout && size > limits.min;
        if !aged && !idle && !client.is_closed() {
            return true;
        }
        size -= 1;
        if idle {
            counters.closed_idle.fetch_add(1, Relaxed);
        } else if aged {
            counters.closed_aged.fetch_add(1, Relaxed);
        }
        false
    });
    top_up(pool, limits).await;
}

/// Brings the pool to its minimum: holding what is idle makes the pool open new connections, and all are given back.
async fn top_up(pool: &deadpool_postgres::Pool, limits: Limits) {
    let status = pool.status();
    let wanted = limits.min.saturating_sub(status.size) + status.available;
    if status.size >= limits.min {
        return;
    }
    let timeouts = Timeouts {
        wait: Some(Duration::ZERO),
        create: Some(limits.acquire_timeout),
        recycle: None,
    };
    let mut held = Vec::with_capacity(wanted);
    for _ in 0..wanted {
        match pool.timeout_get(&timeouts).await {
            Ok(connection) => held.push(connection),
            // Logged where it was met; the next pass tries again.
            Err(_) => return,
        }
    }
}
