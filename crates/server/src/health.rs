//! Liveness and readiness.
//!
//! `/healthz` says that the process lives. `/readyz` says whether it can serve: the database answers and its schema is
//! one that this program knows. Neither does any work when asked: a task of this module asks the database each second,
//! bounded, and both calls read what it found. So they answer at once whatever hangs, and asking them in a loop
//! without a token loads nothing.
//!
//! A cache that is away makes the service slower, not unready (C4.5). An identity provider that is away keeps some callers
//! out, and is shown; all others are served.

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{sync::watch, task::JoinHandle};
use utoipa::ToSchema;
use utxoiq_store::{
    Store,
    cache::CacheState,
    db::migrate::{self, SchemaState},
};

use crate::{
    AppState,
    error::{ApiError, ApiResult},
    routes::{Call, Routes},
};

/// How often the database is asked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take to answer; longer is not ready.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// A finding older than this counts as none: the task that makes them has stopped or starves.
const MAX_AGE: Duration = Duration::from_secs(5);

/// What the last check found about the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseState {
    /// It answers.
    Ok,
    /// It does not answer, or not in time.
    Unreachable,
    /// It was not asked yet.
    Unknown,
}

#[derive(Debug, Clone)]
struct Finding {
    at: Instant,
    database: DatabaseState,
    /// The last known schema state; it outlives an absence of the database.
    schema: Option<SchemaState>,
}

/// Whether this process can serve. Clones share it; its checks end with the last of them.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
    _checks: Option<Arc<AbortOnDrop>>,
}

#[derive(Debug)]
struct Shared {
    finding: RwLock<Finding>,
    /// Whether the schema that was found is one this program can use: what every call asks, without a lock.
    admits: AtomicBool,
    draining: watch::Sender<bool>,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The answer of `/readyz` when it is ready.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyBody {
    /// Always `ok`; otherwise the answer is a problem with the same members.
    status: &'static str,
    /// Whether the database answers.
    database: DatabaseState,
    /// `ready`, or `newer`: ahead of this program, and compatible with it.
    schema: &'static str,
    /// The number of the newest migration.
    schema_version: Option<i32>,
    /// `ok`, `degraded` (it is away, and the database answers everything), or `off`.
    cache: &'static str,
    /// `ok`, `degraded` (the identity provider's keys are overdue: end users may be refused), or `off`.
    end_users: &'static str,
}

/// The answer of `/healthz`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthBody {
    /// Always `ok`.
    status: &'static str,
}

impl Readiness {
    /// Starts the checks. Until the first one has ended nothing is known, and the service is not ready.
    pub fn watch(store: &Store) -> Self {
        let shared = Arc::new(Shared {
            finding: RwLock::new(Finding {
                at: Instant::now(),
                database: DatabaseState::Unknown,
                schema: None,
            }),
            admits: AtomicBool::new(false),
            draining: watch::Sender::new(false),
        });
        let checks = tokio::spawn(check_forever(store.clone(), Arc::clone(&shared)));
        Self {
            shared,
            _checks: Some(Arc::new(AbortOnDrop(checks))),
        }
    }

    /// Says "not ready" from now on: the process stops.
    pub fn drain(&self) {
        self.shared.draining.send_replace(true);
    }

    /// Completes when the process stops: for answers that would go on for ever.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.shared.draining.subscribe();
        async move {
            // It fails when nobody is left who could say it.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    /// Refuses calls while the schema is unknown or not one that this program can use. A database that is away is not
    /// judged here: each call finds out for itself, and may find it back.
    pub fn admit(&self) -> ApiResult<()> {
        if self.shared.admits.load(Relaxed) {
            return Ok(());
        }
        match &self.shared.read().schema {
            Some(schema) => Ok(schema.require()?),
            None => Err(ApiError::unavailable(
                "starting",
                "the service has not reached its database yet; send the request again later",
            )),
        }
    }

    /// Whether it is ready, and why it is not: code and words.
    pub(crate) fn says(&self) -> Result<(), (&'static str, String)> {
        let finding = self.shared.read().clone();
        self.reason(&finding).map_or(Ok(()), Err)
    }

    /// Whether this process can serve, as `/readyz` says it.
    pub fn is_ready(&self) -> bool {
        self.says().is_ok()
    }

    fn report(&self, cache: CacheState, end_users: &'static str) -> Response {
        let finding = self.shared.read().clone();
        let schema = finding.schema.as_ref();
        let schema_name = schema.map_or("unknown", SchemaState::as_str);
        let cache = match cache {
            CacheState::Up => "ok",
            CacheState::Down => "degraded",
            CacheState::Off => "off",
        };
        let Some((code, detail)) = self.reason(&finding) else {
            return Json(ReadyBody {
                status: "ok",
                database: finding.database,
                schema: schema_name,
                schema_version: schema.and_then(version),
                cache,
                end_users,
            })
            .into_response();
        };
        let database = serde_json::to_value(finding.database).unwrap_or_default();
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .with_member("database", database)
            .with_member("schema", schema_name)
            .with_member("schema_version", schema.and_then(version))
            .with_member("cache", cache)
            .with_member("end_users", end_users)
            .quietly()
            .into_response()
    }

    /// Why the service is not ready.
    fn reason(&self, finding: &Finding) -> Option<(&'static str, String)> {
        if *self.shared.draining.borrow() {
            return Some(("draining", "the service is stopping".into()));
        }
        if finding.database != DatabaseState::Ok {
            let detail = "the database does not answer; the log has the cause";
            return Some(("database_unavailable", detail.into()));
        }
        if let Some(schema) = finding.schema.as_ref().filter(|schema| !schema.serves()) {
            return Some(("schema_mismatch", schema.to_string()));
        }
        if finding.at.elapsed() > MAX_AGE {
            let detail = "the check of the database has not ended in time";
            return Some(("check_stalled", detail.into()));
        }
        None
    }
}

/// The newest migration, where it is one that this program can judge.
fn version(schema: &SchemaState) -> Option<i32> {
    match schema {
        SchemaState::Ready { version } | SchemaState::Newer { version, .. } => Some(*version),
        _ => None,
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Finding> {
        self.finding.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was found and logs what changed.
    fn found(&self, database: DatabaseState, schema: Option<SchemaState>) {
        let mut finding = self.finding.write().unwrap_or_else(PoisonError::into_inner);
        if database == DatabaseState::Ok && finding.database != DatabaseState::Ok {
            tracing::info!("the database answers");
        }
        if let Some(schema) = &schema
            && finding.schema.as_ref() != Some(schema)
        {
            if schema.serves() {
                tracing::info!("{schema}");
            } else {
                tracing::error!("{schema}");
            }
        }
        finding.at = Instant::now();
        finding.database = database;
        if let Some(schema) = schema {
            self.admits.store(schema.serves(), Relaxed);
            finding.schema = Some(schema);
        }
    }
}

/// The thin loop: asks, keeps what was found, sleeps.
async fn check_forever(store: Store, shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_away = false;
    loop {
        ticks.tick().await;
        let answer =
            tokio::time::timeout(CHECK_TIMEOUT, migrate::compatibility(store.pool())).await;
        let why = match answer {
            Ok(Ok(schema)) => {
                was_away = false;
                shared.found(DatabaseState::Ok, Some(schema));
                continue;
            }
            Ok(Err(error)) => error.report(),
            Err(_) => "no answer within a second".to_owned(),
        };
        if !was_away {
            tracing::warn!("the database does not answer, trying again each second: {why}");
        }
        was_away = true;
        shared.found(DatabaseState::Unreachable, None);
    }
}

/// The calls of this module, which everyone may make.
pub fn routes() -> Routes {
    Routes::new("health", "Whether the service lives and can serve")
        .add(
            Call::open("/healthz", "Whether the process lives").answers::<HealthBody>("it does"),
            async || Json(HealthBody { status: "ok" }),
        )
        .add(
            Call::open("/readyz", "Whether the process can serve")
                .describe("Reads what a check found at most about a second ago. A cache that is away leaves the service ready.")
                .answers::<ReadyBody>("it can")
                .refuses(503, "draining", "the service is stopping")
                .refuses(503, "database_unavailable", "the database does not answer")
                .refuses(503, "schema_mismatch", "the schema is older or newer than this program can use; `schema` says which"),
            ready,
        )
}

async fn ready(State(state): State<AppState>) -> Response {
    let end_users = match &state.oidc {
        None => "off",
        Some(oidc) if oidc.snapshot(state.store.now()).keys.is_degraded => "degraded",
        Some(_) => "ok",
    };
    state
        .readiness
        .report(state.store.cache().probe(), end_users)
}
