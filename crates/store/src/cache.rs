//! The cache: values in this process and in Redis that are never more than a second old (C4).
//!
//! # What it guarantees
//!
//! * **No read is older than a second**, whoever wrote (psql included) and whatever died: a server between its COMMIT and
//!   the invalidation, Redis, the link to it, the link to the database.
//! * **Read your own write.** Through the process that made it, the next read shows it; through any other, a read that
//!   names the writing transaction does.
//! * **Redis is never needed** (C4.5). When it does not answer, the requests that are waiting for it lose at most
//!   `redis.response_timeout_milliseconds`, once; later ones nothing.
//! * **1,000 misses at once on one key are one query**, and misses on different keys share queries.
//!
//! # The argument
//!
//! The database itself records what changed: triggers write an outbox in the writing transaction (migration 0004). Each
//! process polls it every 50 ms ([`outbox`] says why it misses nothing), lets go of what changed in its own memory, and
//! deletes it in Redis. Both layers serve only until [`FRESH_MILLIS`] after the *beginning* of the last completed round:
//! a commit before that beginning has been heard of. A process that hears nothing serves nothing, so no lost message and
//! no half-open link can make it serve what is old; it asks the database.
//!
//! What could bring an old value back is a read that was under way:
//!
//! ```text
//! reader:  misses, reads the database (old)                            stores the old value
//! writer:                                   commits; value is deleted
//! ```
//!
//! In Redis a read therefore leaves a *lease* (a random token) before the database is read, and the value is stored only if
//! the token is still there; an invalidation deletes both. In this process it takes a *ticket* (the number of changes
//! heard of for its part of the keys) and the value is kept only if the number is still the same. A read that finds a value
//! in Redis compares its ticket, too: the change may have been heard of here and not yet in Redis. Nobody joins a
//! read that began before a change was heard of.
//!
//! Redis may lose its memory or find an old one again. Values lie under the id of the server's run, asked on each
//! connection, and the identity of the database, so that nothing from before a restart or a restore is ever seen; [`keeper`]
//! tells how a process comes back after it could not delete.

mod batch;
mod envelope;
mod figures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod keeper;
mod listener;
pub mod look;
pub mod outbox;
mod space;
mod time;
mod wire;

use std::{
    borrow::Cow,
    fmt,
    hash::Hash,
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::JoinHandle;
use tracing::{Dispatch, instrument::WithSubscriber as _, subscriber::NoSubscriber};

pub use batch::{Load, Loaded};
pub use figures::{Figures, LATENCY_BOUNDS};
pub use space::Space;

use crate::{
    config::{CacheSettings, Config, Secret},
    db::{Pool, Snapshot},
    error::{Error, Result},
    measure::Meters,
};
use figures::Counters;
use listener::{Attached, Listener};
pub(crate) use wire::Wire;

/// For how long after the beginning of a completed round both layers may serve.
pub const FRESH_MILLIS: u64 = 700;

/// The form of what lies in Redis, part of every key. To be raised whenever the form of any value, the kinds, or what a
/// change makes stale ([`Key::stale`]) become others: a process deletes only what it knows of, and says in the head that it
/// deleted everything.
const FORMAT: u32 = 2;

/// Whether Redis is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheState {
    /// None is configured.
    Off,
    /// It answers.
    Up,
    /// It does not answer, or was not asked yet.
    Down,
}

/// A value that lies in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Of which kind.
    pub kind: Kind,
    /// How long it has left; `None`: for ever.
    pub left: Option<Duration>,
}

/// What is cached: every kind of value, with its name in keys and metrics and its TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The statistics of an insight.
    FeedbackStats,
    /// A backfill job.
    BackfillJob,
    /// The newest backfill jobs.
    BackfillLatest,
    /// The series of a service and a type.
    MetricSeries,
    /// The samples of an hour of a series.
    MetricSamples,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::FeedbackStats,
        Self::BackfillJob,
        Self::BackfillLatest,
        Self::MetricSeries,
        Self::MetricSamples,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FeedbackStats => "feedback_stats",
            Self::BackfillJob => "backfill_job",
            Self::BackfillLatest => "backfill_latest",
            Self::MetricSeries => "metric_series",
            Self::MetricSamples => "metric_samples",
        }
    }

    /// How long its values are kept (C4.4).
    fn ttl(self, settings: &CacheSettings) -> Duration {
        Duration::from_secs(match self {
            Self::FeedbackStats => settings.feedback_ttl_seconds,
            Self::BackfillJob | Self::BackfillLatest => settings.backfill_ttl_seconds,
            Self::MetricSeries | Self::MetricSamples => settings.metrics_ttl_seconds,
        })
    }

    /// How much of them is kept in this process, in the measure of [`Key::weight`].
    fn capacity(self, settings: &CacheSettings) -> u64 {
        match self {
            Self::MetricSamples => settings.metrics_local_bytes,
            _ => settings.local_capacity,
        }
    }
}

/// A key, tied to the type of its values.
pub trait Key: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// What lies under it.
    type Value: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Which kind of value that is.
    const KIND: Kind;

    /// The key as text, unique among its kind.
    fn text(&self) -> Cow<'_, str>;

    /// Whether a value is worth Redis's memory. What is about nothing, such as the statistics of an insight that nobody
    /// spoke of, is not: whoever asks for names that do not exist would fill it.
    fn is_worth_sharing(_value: &Self::Value) -> bool {
        true
    }

    /// How much of the kind's room in this process a value takes: one of so many values, where it is not measured in bytes.
    fn weight(_value: &Self::Value) -> u32 {
        1
    }

    /// Which keys a change recorded in the outbox makes stale.
    fn stale(kind: &str, key: Option<&str>) -> Stale<Self>;
}

/// Which keys are stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale<K> {
    /// None.
    Nothing,
    /// These.
    Keys(Vec<K>),
    /// All of the kind.
    All,
}

/// A value, and what it was read in.
#[derive(Debug)]
pub struct Cached<V> {
    /// The value.
    pub value: V,
    /// It shows exactly what this shows.
    pub snapshot: Snapshot,
    rendered: OnceLock<Bytes>,
}

impl<V> Cached<V> {
    /// A value with its snapshot.
    pub fn new(value: V, snapshot: Snapshot) -> Self {
        Self {
            value,
            snapshot,
            rendered: OnceLock::new(),
        }
    }

    /// The value in the form in which it is answered, made when it is first asked for. Always ask with the same function.
    pub fn rendered(&self, render: impl FnOnce(&V) -> Vec<u8>) -> Bytes {
        self.rendered
            .get_or_init(|| render(&self.value).into())
            .clone()
    }
}

/// The cache. Clones share it; its tasks end with the last of them and of its spaces.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("state", &self.probe())
            .finish_non_exhaustive()
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a task of the cache. Where whoever makes it is not to be heard of in the log, what the task has to say is not, either.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let is_silent = tracing::dispatcher::get_default(Dispatch::is::<NoSubscriber>);
    if is_silent {
        return tokio::spawn(task.with_subscriber(NoSubscriber::default()));
    }
    tokio::spawn(task)
}

/// What all spaces share, and the tasks.
struct Shared {
    core: Arc<Core>,
    keeper: OnceLock<AbortOnDrop>,
    _watch: Option<AbortOnDrop>,
}

impl Deref for Shared {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Shared {
    /// Starts hearing of changes, if that was not done yet. Until the first round is over nothing is served from here.
    fn start(&self) {
        self.keeper
            .get_or_init(|| AbortOnDrop(spawn(keeper::keep(Arc::clone(&self.core)))));
    }

    /// The number of the first round that is still to begin; `None` while nothing is cached at all.
    fn round_to_come(&self) -> Option<u64> {
        self.keeper.get()?;
        Some(self.rounds.load(SeqCst) + 1)
    }
}

/// What the tasks know.
struct Core {
    settings: CacheSettings,
    database_url: Option<Secret>,
    has_redis: bool,
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
    counters: [Arc<Counters>; Kind::ALL.len()],
    meters: Meters,
    rounds: AtomicU64,
    local_until: AtomicU64,
    redis_until: AtomicU64,
    wire: Mutex<Option<Arc<Wire>>>,
    attached: RwLock<Option<Attached>>,
}

impl Core {
    fn database_url(&self) -> Result<&str> {
        let url = self.database_url.as_ref().map(Secret::expose);
        url.ok_or_else(|| Error::invalid("invalid_config", "database.url must be set"))
    }

    fn local_is_fresh(&self, now: u64) -> bool {
        now < self.local_until.load(SeqCst)
    }

    /// Where this process may read in Redis now.
    fn attached(&self, now: u64) -> Option<Attached> {
        if now >= self.redis_until.load(SeqCst) {
            return None;
        }
        let attached = self.attached.read().unwrap_or_else(PoisonError::into_inner);
        attached
            .as_ref()
            .filter(|attached| attached.wire.is_alive())
            .cloned()
    }

    fn set_attached(&self, attached: Option<Attached>) {
        *self
            .attached
            .write()
            .unwrap_or_else(PoisonError::into_inner) = attached;
    }

    /// The wire, while it is alive.
    fn wire(&self) -> Option<Arc<Wire>> {
        let wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.as_ref().filter(|wire| wire.is_alive()).cloned()
    }

    fn set_wire(&self, wire: Option<Arc<Wire>>) {
        *self.wire.lock().unwrap_or_else(PoisonError::into_inner) = wire;
    }

    /// The spaces that are still in use.
    fn listeners(&self) -> Vec<Arc<dyn Listener>> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.iter().filter_map(Weak::upgrade).collect()
    }

    /// Lets both layers serve until then.
    fn extend(&self, until: u64, reaches_redis: bool) {
        self.local_until.store(until, SeqCst);
        if reaches_redis {
            self.redis_until.store(until, SeqCst);
        }
    }
}

impl Cache {
    /// Makes the cache; connects in the background. Fails only on an address that is none.
    pub fn open(config: &Config) -> Result<Self> {
        let redis = &config.redis;
        let connector = redis
            .url
            .as_ref()
            .map(|url| wire::Connector::new(url.expose(), redis))
            .transpose()?;
        let core = Arc::new(Core {
            settings: config.cache.clone(),
            database_url: config
                .database
                .url
                .as_ref()
                .map(|url| Secret::new(config.database.completed(url.expose()))),
            has_redis: connector.is_some(),
            listeners: Mutex::default(),
            counters: Default::default(),
            meters: Meters::default(),
            rounds: AtomicU64::new(0),
            local_until: AtomicU64::new(0),
            redis_until: AtomicU64::new(0),
            wire: Mutex::default(),
            attached: RwLock::default(),
        });
        let watch = connector.map(|connector| {
            let watching = keeper::watch(Arc::clone(&core), connector);
            AbortOnDrop(spawn(watching))
        });
        Ok(Self(Arc::new(Shared {
            core,
            keeper: OnceLock::new(),
            _watch: watch,
        })))
    }

    /// A space for one kind of values, read by `load` where they are not cached.
    pub fn space<K: Key>(&self, load: Load<K, K::Value>) -> Space<K> {
        let shared = &self.0;
        let counters = Arc::clone(&shared.counters[K::KIND as usize]);
        let ttl = K::KIND.ttl(&shared.settings);
        let space = Space::new(Arc::clone(shared), counters, ttl, load);
        let listener: Arc<dyn Listener> = space.inner();
        shared
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&listener));
        space
    }

    /// Starts hearing of changes now, rather than with the first read.
    pub fn start(&self) {
        self.0.start();
    }

    /// The process's one connection to Redis, while it is alive: whoever meets a dead one tells everybody.
    pub(crate) fn wire(&self) -> Option<Arc<Wire>> {
        self.0.wire()
    }

    /// Whether a Redis is configured.
    pub(crate) fn has_redis(&self) -> bool {
        self.0.has_redis
    }

    /// Whether Redis answers and is in use; no traffic. `Down` also while this process hears of no changes.
    pub fn probe(&self) -> CacheState {
        let shared = &self.0;
        let now = time::millis();
        let is_deaf = shared.keeper.get().is_some() && !shared.local_is_fresh(now);
        match (shared.has_redis, shared.wire()) {
            _ if is_deaf => CacheState::Down,
            (false, _) => CacheState::Off,
            (true, Some(_)) if shared.keeper.get().is_none() => CacheState::Up,
            (true, _) if shared.attached(now).is_some() => CacheState::Up,
            (true, _) => CacheState::Down,
        }
    }

    /// How long ago the last completed round of listening for changes began; `None` before the first. Values are served from
    /// here for [`FRESH_MILLIS`] of it.
    pub fn heard(&self) -> Option<Duration> {
        match self.0.local_until.load(SeqCst) {
            0 => None,
            until => {
                let began = until.saturating_sub(FRESH_MILLIS);
                Some(Duration::from_millis(time::millis().saturating_sub(began)))
            }
        }
    }

    /// What happened to each kind of values since the process started.
    pub fn figures(&self) -> Vec<Figures> {
        let counters = &self.0.counters;
        Kind::ALL
            .into_iter()
            .map(|kind| counters[kind as usize].read(kind))
            .collect()
    }

    /// What this process measures of its cache.
    pub fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// How long some values that lie in Redis have left there; none while it is not used.
    pub async fn lives(&self) -> Result<Vec<Life>> {
        // Also while this process hears of changes too late to read there: how long values live does not change with that.
        let attached = {
            let attached = self
                .0
                .attached
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            attached.clone().filter(|attached| attached.wire.is_alive())
        };
        let Some(attached) = attached else {
            return Ok(Vec::new());
        };
        let prefix = format!("{}:v:", attached.prefix);
        let found = attached
            .wire
            .lives(&prefix)
            .await
            .map_err(|_| Error::unavailable("redis_away", "Redis does not answer"))?;
        let lives = found.into_iter().filter_map(|(key, left)| {
            let kind = key.strip_prefix(&prefix)?.split(':').next()?.to_owned();
            Some(Life {
                kind: Kind::ALL.into_iter().find(|one| one.as_str() == kind)?,
                left: u64::try_from(left).ok().map(Duration::from_millis),
            })
        });
        Ok(lives.collect())
    }

    /// Deletes from the outbox what every process had `cache.outbox_seconds` to read; gives how many rows went.
    pub async fn empty_outbox(&self, pool: &Pool, now: DateTime<Utc>) -> Result<u64> {
        let seconds = i64::try_from(self.0.settings.outbox_seconds).unwrap_or(i64::MAX);
        let keep = TimeDelta::try_seconds(seconds).unwrap_or(TimeDelta::MAX);
        outbox::empty(pool, keep, now).await
    }
}
