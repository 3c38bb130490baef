//! Straw servers: the same calls by protocols that are known to be right or wrong.
//!
//! The harness is trusted because it tells them apart. Right are [`Protocol::NoCache`] and
//! [`Protocol::LocalWithDeadline`]; each of the others makes one mistake that real systems make.
//!
//! A straw server is a process of its own, so that it can be killed and frozen like the real one: the test program runs
//! itself again, and [`a_straw_server_serves_when_told`] is the way in. So it is always built, and never out of date.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use redis::{Cmd, FromRedisValue, RedisResult, aio::MultiplexedConnection};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_postgres::{
    Client, NoTls,
    types::{ToSql, Type},
};

use super::{history::Stats, sql};

/// How a straw server keeps its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Right: there is none.
    NoCache,
    /// Right: in the process, emptied by the record of changes that it polls, and used only as long as the last poll is
    /// younger than 700 ms.
    LocalWithDeadline,
    /// Wrong: the same without the deadline, so what happens while the polls fail is not seen.
    LocalForEver,
    /// Wrong, and common: Redis, filled by a plain SET; a write deletes the key after its commit.
    DeleteAfterCommit,
    /// Wrong: a write deletes the key before its commit.
    DeleteBeforeCommit,
    /// Wrong: Redis, filled by a plain SET; one process relays the record of changes as DELs. Nothing is lost, but a
    /// fill that read before a change may be stored after the DEL.
    RelayedPlainFill,
}

impl Protocol {
    const ALL: [Self; 6] = [
        Self::NoCache,
        Self::LocalWithDeadline,
        Self::LocalForEver,
        Self::DeleteAfterCommit,
        Self::DeleteBeforeCommit,
        Self::RelayedPlainFill,
    ];

    /// Its name.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    fn is_local(self) -> bool {
        matches!(self, Self::LocalWithDeadline | Self::LocalForEver)
    }

    fn uses_redis(self) -> bool {
        !self.is_local() && self != Self::NoCache
    }
}

/// The variable that says which protocol.
pub const PROTOCOL: &str = "STRAW_PROTOCOL";
/// The variable that says where to listen.
pub const LISTEN: &str = "STRAW_LISTEN";
/// The variable that makes this one relay.
pub const RELAYS: &str = "STRAW_RELAYS";
/// The arguments with which the test program runs as a straw server.
pub const ARGUMENTS: [&str; 3] = [
    "coherence::straw::a_straw_server_serves_when_told",
    "--exact",
    "--nocapture",
];

const POLL: Duration = Duration::from_millis(40);
const DEADLINE: Duration = Duration::from_millis(700);
const REDIS_PATIENCE: Duration = Duration::from_millis(50);
const DATABASE_PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn a_straw_server_serves_when_told() {
    let Ok(name) = env::var(PROTOCOL) else {
        return;
    };
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.name() == name);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(protocol.unwrap()));
}

async fn serve(protocol: Protocol) {
    let straw = Arc::new(Straw {
        protocol,
        database: Database {
            url: env::var("DATABASE_URL").unwrap(),
            client: tokio::sync::Mutex::default(),
        },
        redis: Redis {
            client: redis::Client::open(env::var("REDIS_URL").unwrap()).unwrap(),
            connection: tokio::sync::Mutex::default(),
        },
        local: Mutex::default(),
        generation: AtomicU64::new(0),
        heard: Mutex::default(),
        hits: AtomicU64::new(0),
    });
    if protocol.is_local() {
        tokio::spawn(poll(Arc::clone(&straw)));
    }
    if protocol == Protocol::RelayedPlainFill && env::var(RELAYS).is_ok() {
        tokio::spawn(relay(Arc::clone(&straw)));
    }
    let routes = Router::new()
        .route("/readyz", get(async || "ready"))
        .route("/metrics", get(metrics))
        .route("/api/v1/feedback/rate", post(rate))
        .route("/api/v1/feedback/stats", get(stats))
        .with_state(straw);
    let address: SocketAddr = env::var(LISTEN).unwrap().parse().unwrap();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    println!("listening");
    axum::serve(listener, routes).await.unwrap();
}

struct Straw {
    protocol: Protocol,
    database: Database,
    redis: Redis,
    local: Mutex<HashMap<String, Value>>,
    /// Raised by every invalidation: a fill that began before one is not stored.
    generation: AtomicU64,
    /// When the last successful poll was begun.
    heard: Mutex<Option<Instant>>,
    hits: AtomicU64,
}

/// Why there is no answer: the database does not answer.
struct Away;

impl IntoResponse for Away {
    fn into_response(self) -> Response {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

async fn rate(
    State(straw): State<Arc<Straw>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Away> {
    let insight = body["insight_id"].as_str().unwrap();
    let rating = i16::try_from(body["rating"].as_i64().unwrap()).unwrap();
    let user = headers["x-user-id"].to_str().unwrap();
    if straw.protocol == Protocol::DeleteBeforeCommit {
        straw.delete(insight).await;
    }
    straw
        .database
        .query(
            sql::RATE,
            &[
                (&insight, Type::TEXT),
                (&user, Type::TEXT),
                (&rating, Type::INT2),
            ],
        )
        .await?;
    if straw.protocol == Protocol::DeleteAfterCommit {
        straw.delete(insight).await;
    }
    if straw.protocol.is_local() {
        straw.forget(&[insight.to_owned()]);
    }
    Ok(Json(json!({})))
}

async fn stats(
    State(straw): State<Arc<Straw>>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Away> {
    let insight = &query["insight_id"];
    let generation = straw.generation.load(SeqCst);
    let body = if let Some(body) = straw.cached(insight).await {
        straw.hits.fetch_add(1, SeqCst);
        body
    } else {
        let body = straw.database.stats(insight).await?;
        straw.fill(insight, &body, generation).await;
        body
    };
    Ok((
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response())
}

async fn metrics(State(straw): State<Arc<Straw>>) -> String {
    let layer = if straw.protocol.is_local() {
        "local"
    } else {
        "redis"
    };
    let hits = straw.hits.load(SeqCst);
    format!("utxoiq_store_cache_hits_total{{kind=\"feedback_stats\",layer=\"{layer}\"}} {hits}\n")
}

impl Straw {
    async fn cached(&self, insight: &str) -> Option<Value> {
        if self.protocol.is_local() {
            let is_fresh = lock(&self.heard).is_some_and(|heard| {
                self.protocol == Protocol::LocalForEver || heard.elapsed() < DEADLINE
            });
            return lock(&self.local).get(insight).filter(|_| is_fresh).cloned();
        }
        if !self.protocol.uses_redis() {
            return None;
        }
        let get = redis::cmd("GET").arg(insight).to_owned();
        let text: Option<String> = self.redis.ask(&get).await.ok()?;
        serde_json::from_str(&text?).ok()
    }

    async fn fill(&self, insight: &str, body: &Value, generation: u64) {
        if self.protocol.is_local() {
            let mut local = lock(&self.local);
            if self.generation.load(SeqCst) == generation {
                local.insert(insight.to_owned(), body.clone());
            }
        } else if self.protocol.uses_redis() {
            let mut set = redis::cmd("SET");
            set.arg(insight).arg(body.to_string()).arg("EX").arg(3_600);
            let _ = self.redis.ask::<()>(&set).await;
        }
    }

    async fn delete(&self, insight: &str) {
        let del = redis::cmd("DEL").arg(insight).to_owned();
        let _ = self.redis.ask::<()>(&del).await;
    }

    fn forget(&self, insights: &[String]) {
        let mut local = lock(&self.local);
        for insight in insights {
            self.generation.fetch_add(1, SeqCst);
            local.remove(insight);
        }
    }

    fn forget_all(&self) {
        let mut local = lock(&self.local);
        self.generation.fetch_add(1, SeqCst);
        local.clear();
    }
}

/// Reads what has become visible since the last poll and forgets it.
async fn poll(straw: Arc<Straw>) {
    const SQL: &str = "select pg_current_snapshot()::text, coalesce(array_agg(insight_id), '{}') from straw_changes
        where x >= pg_snapshot_xmin($1::text::pg_snapshot) and not pg_visible_in_snapshot(x, $1::text::pg_snapshot)";
    let mut seen = None;
    loop {
        let begun = Instant::now();
        let answer = match &seen {
            None => {
                straw
                    .database
                    .query("select pg_current_snapshot()::text, '{}'::text[]", &[])
                    .await
            }
            Some(seen) => straw.database.query(SQL, &[(seen, Type::TEXT)]).await,
        };
        if let Ok(rows) = answer {
            // What was filled before the first poll is of an unknown time.
            if seen.is_none() {
                straw.forget_all();
            } else {
                let changed: Vec<Option<String>> = rows[0].get(1);
                match changed.into_iter().collect::<Option<Vec<String>>>() {
                    Some(insights) => straw.forget(&insights),
                    None => straw.forget_all(),
                }
            }
            seen = Some(rows[0].get::<_, String>(0));
            *lock(&straw.heard) = Some(begun);
        }
        sleep(POLL).await;
    }
}

/// Takes changes out of their record and deletes them from Redis, until Redis says that it did.
async fn relay(straw: Arc<Straw>) {
    loop {
        let taken = straw
            .database
            .query("delete from straw_changes returning insight_id", &[])
            .await;
        for row in taken.unwrap_or_default() {
            let del = redis::cmd("DEL").arg(row.get::<_, &str>(0)).to_owned();
            while straw.redis.ask::<()>(&del).await.is_err() {
                sleep(POLL).await;
            }
        }
        sleep(POLL).await;
    }
}

/// One connection, made again when it was lost or too slow.
struct Redis {
    client: redis::Client,
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
}

impl Redis {
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let answer = timeout(REDIS_PATIENCE, command.query_async(&mut connection)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            failed => {
                *self.connection.lock().await = None;
                failed.unwrap_or_else(|_| Err(slow()))
            }
        }
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut place = self.connection.lock().await;
        if let Some(connection) = place.as_ref() {
            return Ok(connection.clone());
        }
        let connecting = self.client.get_multiplexed_async_connection();
        let connection = timeout(REDIS_PATIENCE * 4, connecting)
            .await
            .map_err(|_| slow())??;
        Ok(place.insert(connection).clone())
    }
}

fn slow() -> redis::RedisError {
    (redis::ErrorKind::Io, "too slow").into()
}

/// One connection, made again when it was lost. Whoever waits for it too long gets [`Away`].
struct Database {
    url: String,
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
}

impl Database {
    async fn stats(&self, insight: &str) -> Result<Value, Away> {
        let rows = self.query(sql::COUNT, &[(&insight, Type::TEXT)]).await?;
        let count = |index| u64::try_from(rows[0].get::<_, i64>(index)).unwrap();
        let stats = Stats(std::array::from_fn(count));
        let distribution: HashMap<String, u64> = (1..)
            .zip(stats.0)
            .map(|(rating, count): (u32, u64)| (rating.to_string(), count))
            .collect();
        Ok(json!({
            "insight_id": insight,
            "total_ratings": stats.total(),
            "average_rating": stats.average(),
            "rating_distribution": distribution,
            "total_comments": 0,
            "total_flags": 0,
            "flag_types": {},
        }))
    }

    /// One round trip, so that a link's delay is not multiplied.
    async fn query(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<tokio_postgres::Row>, Away> {
        let work = async {
            let client = self.client().await?;
            client.query_typed(sql, parameters).await.map_err(|_| Away)
        };
        timeout(DATABASE_PATIENCE, work).await.map_err(|_| Away)?
    }

    async fn client(&self) -> Result<Arc<Client>, Away> {
        let mut place = self.client.lock().await;
        if let Some(client) = place.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls)
            .await
            .map_err(|_| Away)?;
        tokio::spawn(connection);
        Ok(Arc::clone(place.insert(Arc::new(client))))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
