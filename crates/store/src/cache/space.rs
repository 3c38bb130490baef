//! The values of one kind: in this process, in Redis, and on their way from the database.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::{FutureExt as _, Shared as SharedFuture};
use moka::sync::Cache as Local;
use rand::RngExt as _;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{
    Cached, Key, Kind, Shared,
    batch::{Batcher, Load},
    envelope,
    figures::{Counters, count},
    listener::{Attached, Listener as _, Names},
    time,
    wire::Looked,
};
use crate::{
    db::TransactionId,
    error::{Error, Result},
    measure::{Meter, UNANSWERED},
    trace,
};

/// In how many parts the keys are divided for noticing changes: one change refuses what is under way for its part.
const SHARDS: usize = 4_096;

/// For how long others may join a read that is under way, from its beginning. What it finds in Redis may lack what was
/// committed in the [`super::FRESH_MILLIS`] before; with this, those who join see nothing older than a second.
const JOINABLE_MILLIS: u64 = 200;

/// The most written keys that are known one by one.
const MAX_WRITTEN: usize = 100_000;

/// A value in this process.
pub(super) struct Held<V> {
    cached: Arc<Cached<V>>,
    /// Which generation of the whole space it belongs to.
    epoch: u64,
    /// When its time is over.
    ends: u64,
}

impl<V> Clone for Held<V> {
    fn clone(&self) -> Self {
        Self {
            cached: Arc::clone(&self.cached),
            ..*self
        }
    }
}

/// What was true when a read began; a value may be used for others only if it is still true when it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket {
    epoch: u64,
    changes: u64,
}

type Answer<V> = Result<Arc<Cached<V>>, Arc<Error>>;

/// A read under way.
struct Flight<V> {
    id: u64,
    ticket: Ticket,
    began: u64,
    answer: SharedFuture<oneshot::Receiver<Answer<V>>>,
}

/// The values of one kind. Clones share them.
pub struct Space<K: Key>(Arc<Inner<K>>);

impl<K: Key> Clone for Space<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key> std::fmt::Debug for Space<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Space").field(&K::KIND).finish()
    }
}

pub(super) struct Inner<K: Key> {
    shared: Arc<Shared>,
    pub(super) counters: Arc<Counters>,
    ttl: Duration,
    pub(super) local: Local<K, Held<K::Value>>,
    hasher: RandomState,
    /// How many changes were heard of, for each part of the keys.
    shards: Box<[Mutex<u64>]>,
    pub(super) epoch: AtomicU64,
    /// Keys that this process has written, and the round of polls after which Redis has heard of it.
    pub(super) written: Mutex<HashMap<K, u64>>,
    /// The same for all keys.
    all_written_until: AtomicU64,
    pub(super) settled: AtomicU64,
    flights: Mutex<HashMap<K, Flight<K::Value>>>,
    next_flight: AtomicU64,
    batcher: Batcher<K, K::Value>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Key> Space<K> {
    pub(super) fn new(
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        ttl: Duration,
        load: Load<K, K::Value>,
    ) -> Self {
        let settings = &shared.settings;
        let batcher = Batcher::new(load, settings.max_keys_per_load, Arc::clone(&counters));
        Self(Arc::new(Inner {
            local: Local::builder()
                .max_capacity(K::KIND.capacity(settings))
                .weigher(|_, held: &Held<K::Value>| K::weight(&held.cached.value))
                .time_to_live(ttl)
                .build(),
            shared,
            counters,
            ttl,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(0)).collect(),
            epoch: AtomicU64::new(0),
            written: Mutex::new(HashMap::new()),
            all_written_until: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            flights: Mutex::new(HashMap::new()),
            next_flight: AtomicU64::new(0),
            batcher,
        }))
    }

    pub(super) fn inner(&self) -> Arc<Inner<K>> {
        Arc::clone(&self.0)
    }

    /// The value of a key, from wherever it may come from now; at most a second old, and never older than `seen`: a
    /// transaction that the caller knows to be committed.
    pub async fn get(&self, key: &K, seen: Option<TransactionId>) -> Result<Arc<Cached<K::Value>>> {
        let inner = &self.0;
        inner.shared.start();
        if let Some(cached) = inner.held(key) {
            if shows(&cached, seen) {
                count(&inner.counters.hits_local);
                return Ok(cached);
            }
            count(&inner.counters.stale_refused);
            return inner.read(key).await.map_err(Error::shared);
        }
        // In a box, so that the way of what is there already, nearly everything, is not as wide as this one.
        Box::pin(self.fetch_measured(key, seen)).await
    }

    async fn fetch_measured(
        &self,
        key: &K,
        seen: Option<TransactionId>,
    ) -> Result<Arc<Cached<K::Value>>> {
        let began = Instant::now();
        let fetched = self.fetch(key, seen).await;
        if K::KIND == Kind::FeedbackStats {
            let meters = &self.0.shared.meters;
            match &fetched {
                Ok(_) => meters.since(Meter::StatsRead, began),
                Err(_) => meters.record(Meter::StatsRead, UNANSWERED),
            }
        }
        fetched
    }

    /// The value of a key, from Redis or the database.
    async fn fetch(&self, key: &K, seen: Option<TransactionId>) -> Result<Arc<Cached<K::Value>>> {
        let inner = &self.0;
        match inner.fly(key).await {
            Ok(cached) if shows(&cached, seen) => Ok(cached),
            // Begun before the caller's transaction was committed, or found in Redis: a read that begins now shows it.
            Ok(_) => {
                count(&inner.counters.stale_refused);
                inner.read(key).await.map_err(Error::shared)
            }
            Err(error) => Err(Error::shared(error)),
        }
    }

    /// What this process holds of a key and may serve now; counts nothing, loads nothing.
    pub fn peek(&self, key: &K) -> Option<Arc<Cached<K::Value>>> {
        self.0.held(key)
    }

    /// Notes that this process has just changed a value: its next reads see it at once. To be called after the commit
    /// and before the writer is answered, also when it is not known whether the commit took effect.
    pub fn wrote(&self, key: &K) {
        let inner = &self.0;
        if let Some(round) = inner.shared.round_to_come() {
            let mut written = lock(&inner.written);
            if written.len() < MAX_WRITTEN {
                written.insert(key.clone(), round);
            } else {
                // No round was completed for long. All keys are as good as any.
                written.clear();
                inner.all_written_until.fetch_max(round, SeqCst);
            }
            drop(written);
            inner.forget(key);
        }
    }

    /// As [`Self::wrote`], for every key: where it is not known which ones a write concerns.
    pub fn wrote_all(&self) {
        let inner = &self.0;
        if let Some(round) = inner.shared.round_to_come() {
            inner.all_written_until.fetch_max(round, SeqCst);
            inner.forget_all();
        }
    }
}

/// Whether a value shows what a transaction did.
fn shows<V>(cached: &Cached<V>, seen: Option<TransactionId>) -> bool {
    seen.is_none_or(|transaction| cached.snapshot.sees(transaction))
}

impl<K: Key> Inner<K> {
    fn shard(&self, key: &K) -> &Mutex<u64> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash).unwrap_or_default() % SHARDS]
    }

    fn ticket(&self, key: &K) -> Ticket {
        let epoch = self.epoch.load(SeqCst);
        Ticket {
            epoch,
            changes: *lock(self.shard(key)),
        }
    }

    /// A value of this process, while what the process knows is recent enough.
    fn held(&self, key: &K) -> Option<Arc<Cached<K::Value>>> {
        let now = time::millis();
        if !self.shared.local_is_fresh(now) {
            return None;
        }
        let held = self.local.get(key)?;
        (held.epoch == self.epoch.load(SeqCst) && now < held.ends).then_some(held.cached)
    }

    /// Keeps a value, unless something changed since the ticket was taken; says whether it did.
    fn hold(&self, key: &K, ticket: Ticket, cached: &Arc<Cached<K::Value>>) -> bool {
        let ttl = u64::try_from(jittered(self.ttl).as_millis()).unwrap_or(u64::MAX);
        let changes = lock(self.shard(key));
        if *changes != ticket.changes || self.epoch.load(SeqCst) != ticket.epoch {
            return false;
        }
        // Under the shard's lock, as are all removals: none can come between the check and the insertion. A new epoch
        // may; the value then carries the old one and is not served.
        self.local.insert(
            key.clone(),
            Held {
                cached: Arc::clone(cached),
                epoch: ticket.epoch,
                ends: time::millis() + ttl,
            },
        );
        true
    }

    /// Joins the read of a key that is under way, or begins one.
    async fn fly(self: &Arc<Self>, key: &K) -> Answer<K::Value> {
        let ticket = self.ticket(key);
        let now = time::millis();
        let answer = {
            let mut flights = lock(&self.flights);
            match flights.get(key) {
                // A change since it began has changed the ticket: what it finds may be too old for those who come now.
                Some(flight)
                    if flight.ticket == ticket
                        && now.saturating_sub(flight.began) < JOINABLE_MILLIS =>
                {
                    count(&self.counters.joined);
                    flight.answer.clone()
                }
                _ => self.take_off(&mut flights, key, ticket, now),
            }
        };
        answer
            .await
            .unwrap_or_else(|_| Err(Arc::new(Error::internal("reading a value was given up"))))
    }

    /// Begins a read in a task of its own: whoever asked first may go away, those who joined stay.
    fn take_off(
        self: &Arc<Self>,
        flights: &mut HashMap<K, Flight<K::Value>>,
        key: &K,
        ticket: Ticket,
        began: u64,
    ) -> SharedFuture<oneshot::Receiver<Answer<K::Value>>> {
        let id = self.next_flight.fetch_add(1, SeqCst);
        let (sender, receiver) = oneshot::channel();
        let answer = receiver.shared();
        flights.insert(
            key.clone(),
            Flight {
                id,
                ticket,
                began,
                answer: answer.clone(),
            },
        );
        let landing = Landing {
            inner: Arc::clone(self),
            key: key.clone(),
            id,
        };
        let finding = async move {
            let found = landing.inner.find(&landing.key, ticket).await;
            // Before the answer: who comes after it finds the value, or begins a read of its own.
            drop(landing);
            let _ = sender.send(found);
        };
        tokio::spawn(finding.instrument(trace::current()));
        answer
    }

    /// The value from Redis, or else from the database.
    async fn find(&self, key: &K, ticket: Ticket) -> Answer<K::Value> {
        let Some(wire) = self.usable_wire(key) else {
            return self.load_unasked(key, ticket).await;
        };
        self.shared.meters.record(Meter::RedisFirst, 0);
        let names = Names::of(&wire.prefix, key);
        let token = format!("{:032x}", rand::rng().random::<u128>());
        let lease = match wire.wire.look(&names.value, &names.lease, &token).await {
            Ok(Looked::Value(bytes)) => {
                if let Some(cached) = self.take(key, ticket, &names, &bytes) {
                    return Ok(cached);
                }
                // Rubbish, or older than what is known here: it must not stay, and is not worth waiting for.
                let value = names.value.clone();
                let wire = Arc::clone(&wire.wire);
                tokio::spawn(async move { wire.delete(&value).await });
                false
            }
            Ok(Looked::Leased) => true,
            Ok(Looked::Nothing) | Err(_) => false,
        };
        let loaded = self.load(key, ticket).await?;
        if lease
            && K::is_worth_sharing(&loaded.value)
            && let Some(bytes) = envelope::seal(&names.value, &loaded)
        {
            self.fill(wire, names, token, bytes);
        }
        Ok(loaded)
    }

    /// The value from the database, where Redis is not to be asked first: it is away, or does not know yet what was written here.
    async fn load_unasked(&self, key: &K, ticket: Ticket) -> Answer<K::Value> {
        let is_away = self.shared.has_redis && self.shared.attached(time::millis()).is_none();
        let loaded = self.load(key, ticket).await;
        if is_away {
            let meters = &self.shared.meters;
            meters.record(Meter::RedisFirst, 1);
            meters.record(Meter::WithoutRedis, u64::from(loaded.is_err()));
        }
        loaded
    }

    /// A value found in Redis, if it is one, and nothing changed meanwhile: it may have been read before Redis heard.
    fn take(
        &self,
        key: &K,
        ticket: Ticket,
        names: &Names,
        bytes: &[u8],
    ) -> Option<Arc<Cached<K::Value>>> {
        let Some(cached) = envelope::open(&names.value, bytes) else {
            count(&self.counters.damaged);
            return None;
        };
        let cached = Arc::new(cached);
        if self.hold(key, ticket, &cached) {
            count(&self.counters.hits_redis);
            return Some(cached);
        }
        count(&self.counters.stale_refused);
        None
    }

    /// The wire, unless the key was written here and Redis may not have heard of it.
    fn usable_wire(&self, key: &K) -> Option<Attached> {
        let now = time::millis();
        let attached = self.shared.attached(now)?;
        let written = lock(&self.written).contains_key(key)
            || self.all_written_until.load(SeqCst) > self.settled.load(SeqCst);
        (!written).then_some(attached)
    }

    /// Reads the database, and keeps what was found unless something changed meanwhile.
    async fn load(&self, key: &K, ticket: Ticket) -> Answer<K::Value> {
        count(&self.counters.misses);
        let (value, snapshot) = self.batcher.load(key.clone()).await?;
        let cached = Arc::new(Cached::new(value, snapshot));
        self.hold(key, ticket, &cached);
        Ok(cached)
    }

    /// A read of the database that begins now, joined by nobody.
    async fn read(&self, key: &K) -> Answer<K::Value> {
        let ticket = self.ticket(key);
        self.load(key, ticket).await
    }

    /// Stores a value in Redis; nobody waits for it.
    fn fill(&self, wire: Attached, names: Names, token: String, bytes: Vec<u8>) {
        let counters = Arc::clone(&self.counters);
        let ttl = jittered(self.ttl);
        tokio::spawn(async move {
            let filled = wire
                .wire
                .fill(&names.value, &names.lease, &token, &bytes, ttl)
                .await;
            match filled {
                Ok(true) => count(&counters.fills),
                Ok(false) => count(&counters.fills_refused),
                Err(_) => {}
            }
        });
    }

    pub(super) fn forget(&self, key: &K) {
        let mut changes = lock(self.shard(key));
        *changes += 1;
        self.local.invalidate(key);
    }
}

/// Takes a flight off the board when it has ended, however it did.
struct Landing<K: Key> {
    inner: Arc<Inner<K>>,
    key: K,
    id: u64,
}

impl<K: Key> Drop for Landing<K> {
    fn drop(&mut self) {
        let mut flights = lock(&self.inner.flights);
        // Another one may have taken its place.
        if flights
            .get(&self.key)
            .is_some_and(|flight| flight.id == self.id)
        {
            flights.remove(&self.key);
        }
    }
}

/// Less up to a tenth at random, so that what was filled together does not end together.
fn jittered(ttl: Duration) -> Duration {
    ttl.mul_f64(rand::rng().random_range(0.9..1.0))
}
