//! Trying what the criteria promise, in a database that is made for it and dropped afterwards.
//!
//! # What it guarantees
//!
//! * **Nothing of it runs in the database that is served from**, but for one row of `slo_probes` that says what was tried. The scratch
//!   database is made beside the one of `database.drill_url`, as the role of test restores, which may not connect to the served one.
//! * **It is the product that is tried**: the binary's own migrations by its own migrator, a store opened on what they made, and the calls
//!   that everybody makes.
//! * **Nothing is left behind**: the database is dropped after success, failure and cancellation; after a kill the next probe does it.
//!   There is no cold store, no receiver of alerts and no Redis in it but one that hangs up (that is how C4.5 is tried).
//! * **One step that fails does not keep the others from being tried**, and none takes longer than its time.

mod backfill;
mod feedback;
mod local;
mod metrics;
mod migrations;

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::{net::TcpListener, task::JoinHandle};
use tracing::{instrument::WithSubscriber as _, subscriber::NoSubscriber};
use url::Url;
use uuid::Uuid;

use crate::{
    Error, Result, Store,
    backup::{Scratch, drop_left, left_behind},
    config::{Config, DatabaseSettings, Secret},
    db::Dedicated,
    slo::{
        probes::{self, Probe, Step},
        queries,
    },
};

/// How the names of scratch databases begin; a probe's id follows.
const PREFIX: &str = "utxoiq_canary_";

/// How long one step may take: the longest makes all tables.
const STEP_WITHIN: Duration = Duration::from_mins(1);

/// What a test spoils, so that a step is seen to fail.
#[derive(Debug, Clone, Default)]
pub struct Sabotage {
    /// SQL that the scratch database is treated with when it was migrated.
    pub sql: Option<String>,
    /// What is done to the folder of migrations before a new one is made in it.
    pub folder: Option<fn(&Path)>,
}

/// Why a step failed.
pub(super) struct Failed(String);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error.report())
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<&str> for Failed {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// What a step gives: a few words about what was seen.
pub(super) type Seen<T = String> = Result<T, Failed>;

/// Fails with what was seen instead.
pub(super) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, wanted: &T) -> Seen<()> {
    if seen == wanted {
        return Ok(());
    }
    Err(format!("{what} is {seen:?}, not {wanted:?}").into())
}

/// Steps, as they are tried.
pub(super) struct Trial<'a> {
    store: &'a Store,
    probe: Uuid,
    steps: Vec<Step>,
}

impl Trial<'_> {
    /// Tries something; gives what it gave, if it did.
    pub async fn step<T>(
        &mut self,
        criterion: &'static str,
        step: &'static str,
        work: impl Future<Output = Seen<(String, T)>>,
    ) -> Option<T> {
        let began = Instant::now();
        // What is tried is told by its outcome: in the log it would look as if it happened to the service.
        let work = Box::pin(work.with_subscriber(NoSubscriber::default()));
        let outcome = tokio::time::timeout(STEP_WITHIN, work).await;
        let took_milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, message, value) = match outcome {
            Ok(Ok((message, value))) => (true, message, Some(value)),
            Ok(Err(Failed(why))) => (false, why, None),
            Err(_) => (
                false,
                format!("it took longer than {} s", STEP_WITHIN.as_secs()),
                None,
            ),
        };
        self.steps.push(Step {
            criterion: criterion.to_owned(),
            step: step.to_owned(),
            ok,
            message: message
                .chars()
                .filter(|c| !c.is_control())
                .take(500)
                .collect(),
            took_milliseconds,
        });
        let renewed = probes::renew(self.store.pool(), self.probe, self.store.now()).await;
        if let Err(error) = renewed {
            tracing::debug!(error = %error.report(), "a probe could not give its sign of life");
        }
        value
    }
}

/// Tries the capabilities, and records what came of it. Where `database.drill_url` is not set, only what needs no database.
///
/// Fails with `probe_running` where another probe goes on, and where the outcome cannot be recorded. What failed to do what it should is
/// no failure of the probe.
pub async fn probe(store: &Store, actor: &str, now: DateTime<Utc>) -> Result<Probe> {
    probe_with(store, actor, now, Sabotage::default()).await
}

/// As [`probe`], with something spoilt: so that tests see what a criterion looks like that is missed.
#[doc(hidden)]
pub async fn probe_with(
    store: &Store,
    actor: &str,
    now: DateTime<Utc>,
    sabotage: Sabotage,
) -> Result<Probe> {
    let id = probes::begin(store.pool(), actor, now).await?;
    let mut trial = Trial {
        store,
        probe: id,
        steps: Vec::new(),
    };
    local::try_retries(&mut trial, store.config()).await;
    let tried = match &store.config().database.drill_url {
        None => Ok(()),
        Some(drill_url) => try_in_scratch(&mut trial, drill_url, sabotage).await,
    };
    let error = tried
        .err()
        .map(|error| format!("{}: {}", error.code(), error.message()));
    let steps = trial.steps;
    probes::end(store.pool(), id, &steps, error.as_deref(), store.now()).await?;
    let newest = store.slo().probes(10).await?;
    let ended = newest.into_iter().find(|probe| probe.id == id);
    ended.ok_or_else(|| Error::internal("a probe that has ended is not there"))
}

/// What needs a database.
async fn try_in_scratch(
    trial: &mut Trial<'_>,
    drill_url: &Secret,
    sabotage: Sabotage,
) -> Result<()> {
    sweep(trial.store, drill_url).await?;
    let mut scratch = Scratch::beside(drill_url, PREFIX, trial.probe)?;
    scratch.create().await?;
    let url = Secret::new(address(drill_url, scratch.name())?);
    let tried = try_with(trial, &url, sabotage).await;
    if let Err(error) = scratch.remove().await {
        tracing::warn!(error = %error.report(), "a scratch database could not be dropped; it is tried once more");
    }
    tried
}

async fn try_with(trial: &mut Trial<'_>, url: &Secret, sabotage: Sabotage) -> Result<()> {
    let clock = trial.store.clock();
    let migrated = migrations::try_up(trial, url.expose(), clock.as_ref()).await;
    if migrated.is_none() {
        return Ok(());
    }
    if let Some(sql) = &sabotage.sql {
        let connection = Dedicated::open(url.expose(), "utxoiq-store probe").await?;
        connection.batch_execute(sql).await?;
        connection.close().await;
    }
    migrations::try_rest(trial, url.expose(), clock.as_ref(), sabotage.folder).await;
    let redis = DeafRedis::start().await?;
    let config = config_of(trial.store.config(), url, redis.address);
    let quiet = NoSubscriber::default();
    let store = tracing::subscriber::with_default(quiet, || Store::with_clock(config, clock))?;
    let now = store.now();
    backfill::try_jobs(trial, &store, now).await;
    feedback::try_feedback(trial, &store, now).await;
    metrics::try_metrics(trial, &store, now).await;
    store.pool().close();
    Ok(())
}

/// Drops what probes that are over have left on the server. What this history does not know is another one's.
async fn sweep(store: &Store, drill_url: &Secret) -> Result<()> {
    let left = left_behind(drill_url, PREFIX, queries::SCRATCH).await?;
    if left.is_empty() {
        return Ok(());
    }
    for id in probes::over(store.pool(), &left).await? {
        tracing::warn!(probe = %id, "dropping what a probe has left behind");
        drop_left(drill_url, PREFIX, id).await?;
    }
    Ok(())
}

/// The same address, of another database.
fn address(url: &Secret, database: &str) -> Result<String> {
    let mut url = Url::parse(url.expose()).map_err(|_| {
        Error::invalid(
            "invalid_config",
            "database.drill_url must be an address like postgresql://user@host/postgres for criteria to be tried there",
        )
    })?;
    url.set_path(database);
    Ok(url.into())
}

/// Settings of a store on the scratch database alone.
fn config_of(config: &Config, url: &Secret, redis: SocketAddr) -> Config {
    let mut own = config.clone();
    own.database = DatabaseSettings {
        url: Some(url.clone()),
        admin_url: Some(url.clone()),
        retention_url: None,
        backup_url: None,
        drill_url: None,
        pool_min: 1,
        pool_max: 4,
        ..config.database.clone()
    };
    own.redis.url = Some(Secret::new(format!("redis://{redis}/")));
    own.redis.tls_ca_file = None;
    own.redis.tls_certificate_file = None;
    own.redis.tls_key_file = None;
    own.cold.url = None;
    own.backup_store.url = None;
    own.backup_copy.url = None;
    own.backup.drill_identity = None;
    own.oidc.issuer = None;
    own.oidc.audience = None;
    own.oidc.jwks_url = None;
    let alert = &mut own.alert;
    (alert.webhook_url, alert.slack_url, alert.alertmanager_url) = (None, None, None);
    (
        alert.smtp_url,
        alert.backup_heartbeat_url,
        alert.watch_heartbeat_url,
    ) = (None, None, None);
    own.schedule.enabled = false;
    own
}

/// A Redis that is away: whoever connects is hung up on.
struct DeafRedis {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl DeafRedis {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let (listener, address) = listener
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
            .map_err(|error| Error::internal("no port could be opened").with_source(error))?;
        let listening = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        Ok(Self { address, listening })
    }
}

impl Drop for DeafRedis {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
