//! The connection pool's figures (C6.5).

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utxoiq_store::{
    db::{pool::PoolSnapshot, replica::ReplicaSnapshot},
    token::Scope,
};

use crate::{
    AppState,
    routes::{Call, Routes},
};

/// The answer: the platform's shape around the pool's figures.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolAnswer {
    /// Always `success`.
    status: &'static str,
    metrics: PoolFigures,
}

/// The pool at one moment. The first six members are those that the platform's clients know.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolFigures {
    /// The configured maximum of connections.
    size: i64,
    /// Connections ready to be taken.
    checked_in: i64,
    /// Connections in use or being made.
    checked_out: i64,
    /// Connections beyond `size`: `total_connections - size`, never above 0, since this pool has no overflow.
    overflow: i64,
    /// Connections that exist, those being made included.
    total_connections: i64,
    /// When the figures were taken.
    timestamp: DateTime<Utc>,
    /// The configured minimum of connections.
    min: i64,
    /// The same as `size`.
    max: i64,
    /// Connections in use or being made.
    active: i64,
    /// Connections ready to be taken.
    idle: i64,
    /// Requests waiting for a connection.
    waiting: i64,
    /// Connections handed out since the process started.
    acquired_total: u64,
    /// Requests that gave up waiting.
    timed_out_total: u64,
    /// Connections made.
    created_total: u64,
    /// Connections closed because they were idle for too long.
    closed_idle_total: u64,
    /// Connections replaced because of their age.
    closed_aged_total: u64,
    /// Attempts to connect that followed a failed one.
    connect_retries_total: u64,
    /// Failed attempts to connect, by cause.
    connect_failures: BTreeMap<&'static str, u64>,
    wait: WaitFigures,
    /// How each replica of `database.read_urls` fares.
    replicas: Vec<ReplicaFigures>,
}

/// A replica at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplicaFigures {
    /// Its host, port and database.
    name: String,
    /// Whether reads are sent to it now; one that was behind or failed rests for a moment.
    in_use: bool,
    /// How many bytes of the primary's log it lacked when it was last asked.
    behind_bytes: i64,
    /// Reads that it answered.
    served_total: u64,
    /// Reads that the primary answered because it was behind.
    late_total: u64,
    /// Reads that the primary answered because it failed, or is no replica any more.
    failed_total: u64,
    /// Connections to it.
    total_connections: i64,
}

impl From<ReplicaSnapshot> for ReplicaFigures {
    fn from(replica: ReplicaSnapshot) -> Self {
        Self {
            name: replica.name,
            in_use: replica.in_use,
            behind_bytes: replica.behind_bytes,
            served_total: replica.served_total,
            late_total: replica.late_total,
            failed_total: replica.failed_total,
            total_connections: i64::try_from(replica.pool.size).unwrap_or(i64::MAX),
        }
    }
}

/// How long requests waited for their connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitFigures {
    /// How many waits there were.
    count: u64,
    /// Their sum, in microseconds.
    sum_microseconds: u64,
    /// How many waits lie above the bound before and not above this one.
    buckets: Vec<WaitBucket>,
    /// How many waits lie above the last bound.
    above: u64,
    /// Half of the waits lie within this bound, in microseconds; null without waits or beyond the last bound.
    p50_microseconds: Option<u64>,
    /// 99 of 100 waits lie within this bound.
    p99_microseconds: Option<u64>,
}

/// One bucket of the histogram.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitBucket {
    /// Its upper bound.
    up_to_microseconds: u64,
    /// How many waits are in it.
    count: u64,
}

impl PoolFigures {
    fn of(pool: PoolSnapshot, replicas: Vec<ReplicaSnapshot>) -> Self {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            size: count(pool.max),
            checked_in: count(pool.idle),
            checked_out: count(pool.active),
            overflow: count(pool.size) - count(pool.max),
            total_connections: count(pool.size),
            timestamp: pool.at,
            min: count(pool.min),
            max: count(pool.max),
            active: count(pool.active),
            idle: count(pool.idle),
            waiting: count(pool.waiting),
            acquired_total: pool.acquired_total,
            timed_out_total: pool.timed_out_total,
            created_total: pool.created_total,
            closed_idle_total: pool.closed_idle_total,
            closed_aged_total: pool.closed_aged_total,
            connect_retries_total: pool.connect_retries_total,
            connect_failures: pool
                .connect_failures
                .iter()
                .map(|(cause, n)| (cause.as_str(), *n))
                .collect(),
            replicas: replicas.into_iter().map(ReplicaFigures::from).collect(),
            wait: WaitFigures {
                count: pool.wait.count(),
                sum_microseconds: pool.wait.sum_microseconds,
                above: pool.wait.above,
                p50_microseconds: pool.wait.quantile(0.5),
                p99_microseconds: pool.wait.quantile(0.99),
                buckets: pool
                    .wait
                    .buckets
                    .into_iter()
                    .map(|(up_to_microseconds, count)| WaitBucket {
                        up_to_microseconds,
                        count,
                    })
                    .collect(),
            },
        }
    }
}

/// The slice's calls.
pub fn routes() -> Routes {
    Routes::new("pool", "The connection pool (C6)").add(
        Call::get(
            "/api/v1/monitoring/database/pool",
            Scope::PoolRead,
            "The connection pool's figures",
        )
        .describe("The figures of the process that answers; another instance has its own pool.")
        .answers::<PoolAnswer>("the figures now"),
        show,
    )
}

async fn show(State(state): State<AppState>) -> Json<PoolAnswer> {
    let now = state.store.now();
    Json(PoolAnswer {
        status: "success",
        metrics: PoolFigures::of(
            state.store.pool().snapshot(now),
            state.store.reads().snapshot(now),
        ),
    })
}
