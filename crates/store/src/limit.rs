//! How many requests a caller may make.
//!
//! # What it guarantees
//!
//! * **Never more than the quota in any window**, wherever it begins, over all processes that share a Redis; all of it may
//!   come at once. And never less than 99 % of it for who goes on asking: a request is refused only if the quota was used
//!   within the last 1 + 1/125 windows.
//! * **A refusal costs nothing**: it is not counted, so that who waits as long as it says is admitted, and until then the
//!   caller is refused from memory, without a round trip.
//! * **Redis is never needed.** When it does not answer, the requests that are waiting for it lose at most
//!   `redis.response_timeout_milliseconds`, once; later ones nothing. Each process then admits the quota less what Redis
//!   said others had. So with N processes that lose Redis after a caller used u of its quota q, it gets at most u + N·(q − u)
//!   in that window. A single process gives no more than q, whatever Redis does, but for the requests that
//!   were under way when it lost Redis.
//! * **What was admitted meanwhile is told** when Redis is back, and when it lost its memory, each process tells what it
//!   admitted: then the limit is one again. What is told counts from then on for a window, so that a caller may have to wait
//!   longer by as long as Redis was away.
//! * Memory is bounded: a key in Redis is 127 marks of at most some 80 bytes, and goes 10 s after nothing in it counts;
//!   this process remembers the latest `rate_limit.max_local_callers` only.
//! * User ids do not lie in Redis: a key is named by a hash. With the name goes the tier's rule, so that a tier that is
//!   changed begins anew.
//!
//! # Why marks
//!
//! "100 an hour" is understood as: never more than 100 in any 60 minutes, and all of them at once if need be.
//!
//! * A leaky bucket (GCRA) that admits 100 at once and refills by 100 an hour admits 199 in the first hour; with a smaller burst
//!   it refuses what the caller has a right to.
//! * Fixed windows admit 200 around the full hour; weighting the last window's count by what overlaps is right only where
//!   requests came evenly, which limits are not made for.
//! * A log of all requests is exact, and has 10,000 entries for each of the callers that need watching most.
//!
//! So requests near each other share an entry of the log, a mark ([`window`]). It counts until a window after its last request:
//! never too much is admitted, and a request counts for at most a 125th of a window too long. All that is asked at once is
//! one mark, which ends to the microsecond.
//!
//! # Losing and finding Redis
//!
//! [`entry`] tells how counts are kept in both places. The connection is the cache's ([`crate::cache`]): one breaker for both, so that no
//! request finds out again what another one has found out.

mod attempts;
mod entry;
pub mod script;
mod window;

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use moka::{policy::EvictionPolicy, sync};
use redis::Script;
use sha2::{Digest as _, Sha256};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    cache::{Cache, Wire},
    clock::Clock,
    config::{RateLimitSettings, Tier},
    token::{Caller, Identity},
};
pub use attempts::Attempts;
use entry::Entry;
use window::Rule;

/// What all keys begin with; the number is the form of what is in them.
const PREFIX: &str = "utxoiq:limit:1";

/// How often a new connection to Redis is looked for.
const WATCH: Duration = Duration::from_millis(100);

/// How often a caller's account is told before it is left to its next request: once for what is owed, once more if Redis forgot.
const TELLS: u32 = 3;

/// What a limit says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request may be made; it counts then.
    pub is_admitted: bool,
    /// How many more may be made now.
    pub remaining: u64,
    /// How long until more may be made; for a refused request, until it is admitted.
    pub wait: Duration,
}

impl Verdict {
    fn refused(wait: Duration) -> Self {
        Self {
            is_admitted: false,
            remaining: 0,
            wait,
        }
    }
}

/// What the limits did since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Requests refused, by tier.
    pub refused: Vec<(String, u64)>,
    /// Requests decided here although a Redis is configured.
    pub without_redis: u64,
    /// Refused without asking Redis, since it had said until when.
    pub from_memory: u64,
    /// Callers remembered.
    pub callers: u64,
}

/// The rate limits. Clones share them.
#[derive(Clone)]
pub struct Limiter(Arc<Shared>);

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

struct Shared {
    settings: RateLimitSettings,
    cache: Cache,
    clock: Arc<dyn Clock>,
    script: Script,
    entries: sync::Cache<(Rule, Digest), Arc<Entry>>,
    /// In the order of the tiers.
    refused: Vec<AtomicU64>,
    without_redis: AtomicU64,
    from_memory: AtomicU64,
    /// Whether the log was told that Redis refuses to count.
    is_told: AtomicBool,
    teller: OnceLock<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(teller) = self.teller.get() {
            teller.abort();
        }
    }
}

/// What stands for a caller: as good as no two have the same.
type Digest = [u8; 16];

impl Limiter {
    /// The limits of these settings, over the cache's connection to Redis.
    pub fn new(cache: &Cache, settings: &RateLimitSettings, clock: Arc<dyn Clock>) -> Self {
        let tiers = settings.tiers.as_slice();
        Self(Arc::new(Shared {
            cache: cache.clone(),
            clock,
            script: Script::new(script::TAKE),
            entries: sync::Cache::builder()
                .max_capacity(settings.max_local_callers)
                // The latest stay: the frequent would keep a new caller out, and give it its quota with each request.
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            refused: tiers.iter().map(|_| AtomicU64::new(0)).collect(),
            without_redis: AtomicU64::new(0),
            from_memory: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
            teller: OnceLock::new(),
            settings: settings.clone(),
        }))
    }

    /// The tier of a caller; none: it is not limited. A tier that is not among the settings' is that of users: who is to be
    /// limited stays so when a tier is taken away.
    pub fn tier_of(&self, caller: &Caller) -> Option<&Tier> {
        let settings = &self.0.settings;
        let of_its_kind = || match caller.identity {
            Identity::Token { .. } => settings.token_tier.as_ref(),
            Identity::User => Some(&settings.user_tier),
        };
        let name = caller.rate_tier.as_ref().or_else(of_its_kind)?;
        let tiers = &settings.tiers;
        tiers.get(name).or_else(|| tiers.get(&settings.user_tier))
    }

    /// The tier of users that a service token acts for; none: they are not limited.
    pub fn acting_tier(&self) -> Option<&Tier> {
        let settings = &self.0.settings;
        settings.tiers.get(settings.acting_tier.as_deref()?)
    }

    /// The refusal of a caller that is over its limit for some time yet, as far as this process knows; it asks nobody.
    pub fn refusal(&self, tier: &Tier, caller: &str, now: DateTime<Utc>) -> Option<Verdict> {
        let shared = &self.0;
        let entry = shared.entries.get(&(rule_of(tier), digest(caller)))?;
        let verdict = entry.refused(now)?;
        shared.from_memory.fetch_add(1, Relaxed);
        shared.count_refusal(tier);
        Some(verdict)
    }

    /// Counts a request of a caller, by its [`Caller::key`], if there is room for it.
    pub async fn take(&self, tier: &Tier, caller: &str, now: DateTime<Utc>) -> Verdict {
        let shared = &self.0;
        if let Some(refusal) = self.refusal(tier, caller, now) {
            return refusal;
        }
        let entry = shared.entry(rule_of(tier), digest(caller));
        let verdict = match shared.cache.wire() {
            Some(wire) => shared.ask(&wire, &entry, true, now).await,
            None => None,
        };
        let verdict = verdict.unwrap_or_else(|| {
            let is_missed = u64::from(shared.cache.has_redis());
            shared.without_redis.fetch_add(is_missed, Relaxed);
            entry.decide(now)
        });
        if !verdict.is_admitted {
            shared.count_refusal(tier);
        }
        verdict
    }

    /// What the limits did so far.
    pub fn figures(&self) -> Figures {
        let shared = &self.0;
        let tiers = shared.settings.tiers.as_slice().iter();
        shared.entries.run_pending_tasks();
        Figures {
            refused: tiers
                .zip(&shared.refused)
                .map(|(tier, count)| (tier.name.clone(), count.load(Relaxed)))
                .collect(),
            without_redis: shared.without_redis.load(Relaxed),
            from_memory: shared.from_memory.load(Relaxed),
            callers: shared.entries.entry_count(),
        }
    }
}

impl Shared {
    fn count_refusal(&self, tier: &Tier) {
        let tiers = self.settings.tiers.as_slice();
        if let Some(place) = tiers.iter().position(|one| one.name == tier.name) {
            self.refused[place].fetch_add(1, Relaxed);
        }
    }

    fn entry(self: &Arc<Self>, rule: Rule, digest: Digest) -> Arc<Entry> {
        if self.cache.has_redis() {
            self.teller
                .get_or_init(|| tokio::spawn(tell(Arc::downgrade(self))));
        }
        self.entries.get_with((rule, digest), || {
            Arc::new(Entry::new(rule, redis_key(rule, &digest)))
        })
    }

    /// Asks Redis; `None` where it does not answer, or refuses the script: it has no memory left, say.
    async fn ask(
        &self,
        wire: &Wire,
        entry: &Arc<Entry>,
        take: bool,
        now: DateTime<Utc>,
    ) -> Option<Verdict> {
        let question = entry.question(now);
        let call = script::call(
            &self.script,
            &entry.redis_key,
            entry.rule,
            take,
            question.owed,
        );
        let Some(answer) = wire.run("limit", &call).await.ok()? else {
            if !self.is_told.swap(true, Relaxed) {
                tracing::warn!(
                    "Redis refuses to count requests, so this process counts alone: it needs memory, and an account that may do @read @write @scripting and time on utxoiq:*"
                );
            }
            return None;
        };
        if self.is_told.load(Relaxed) {
            self.is_told.store(false, Relaxed);
        }
        Some(question.answered(answer, take, now))
    }

    /// Tells Redis, over a new connection, what it does not know of this process's callers. `None`: the connection is dead.
    async fn tell_all(&self, wire: &Wire) -> Option<()> {
        for (_, entry) in &self.entries {
            for _ in 0..TELLS {
                let now = self.clock.now();
                if !entry.is_used(now) {
                    break;
                }
                let heard = self.ask(wire, &entry, false, now).await;
                if heard.is_none() && !wire.is_alive() {
                    return None;
                }
                if !entry.owes() {
                    break;
                }
            }
        }
        Some(())
    }
}

/// Looks for new connections for ever, and tells over each what Redis may not know.
async fn tell(shared: Weak<Shared>) {
    let mut told: Option<Arc<Wire>> = None;
    loop {
        sleep(WATCH).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let Some(wire) = shared.cache.wire() else {
            continue;
        };
        let is_new = told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, &wire));
        if is_new && shared.tell_all(&wire).await.is_some() {
            told = Some(wire);
        }
    }
}

fn rule_of(tier: &Tier) -> Rule {
    let seconds = i64::try_from(tier.window_seconds).unwrap_or(i64::MAX);
    Rule {
        quota: tier.quota,
        window: seconds.saturating_mul(1_000_000),
    }
}

fn digest(caller: &str) -> Digest {
    let hash = Sha256::digest(caller.as_bytes());
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash[..16]);
    digest
}

fn redis_key(rule: Rule, digest: &Digest) -> String {
    let caller = u128::from_be_bytes(*digest);
    format!(
        "{PREFIX}:{}/{}:{caller:032x}",
        rule.quota,
        rule.window / 1_000_000
    )
}
