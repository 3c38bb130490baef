//! The identity provider's keys, as this process holds them: fetched, kept fresh, and let go.
//!
//! # What it guarantees
//!
//! * Keys are renewed in the background when four fifths of the time that the provider gave them (`Cache-Control`, from a
//!   minute to a day) have passed. No request waits for that. What is not in the new set no longer works.
//! * A token that names an unknown key makes one request to the provider, however many such tokens come at once, and then
//!   none for [`PAUSE`]: who sends made-up key ids can neither load the provider nor, waiting, take up this service.
//! * While the provider is away the keys go on working for `oidc.keys_outlive_hours` beyond their time, and the log and the
//!   figures say so. Then, or where there never were any, nobody can be told from anybody, which is 503 and not 401.
//! * What the provider answers is bounded in time and size and read strictly. It follows no redirection.
//!
//! The loop that renews looks at the clock each second and only then at what is due: a machine that slept, or a clock that
//! was put right, is noticed at once.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Client, StatusCode, header, redirect};
use tokio::sync::{Mutex, Semaphore};
use utxoiq_store::{
    Error, Store,
    error::{Kind, causes},
    tls::use_ring,
};

use super::jwks::Keys;

/// For so long after a fetch, whatever came of it, an unknown key makes no other one.
pub const PAUSE: TimeDelta = TimeDelta::seconds(15);

/// How many requests wait for a fetch; others are told to come back.
const MOST_WAITING: usize = 32;

/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest set of keys, in bytes.
const MAX_SET: usize = 1 << 20;

/// How long a set is good: at least, at most, and where the provider says nothing.
const SHORTEST: i64 = 60;
const LONGEST: i64 = 86_400;
const UNSAID: i64 = 3_600;

/// The pause before a failed fetch is repeated in the background: doubled each time, up to the longest.
const FIRST_RETRY_SECONDS: i64 = 5;
const LONGEST_RETRY_SECONDS: i64 = 60;

/// How often the loop looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// Keys to verify with.
#[derive(Debug, Clone)]
pub(super) struct Present {
    pub keys: Arc<Keys>,
    /// Another number for another set.
    pub generation: u64,
}

/// What is known of the provider's keys, for the figures and for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysSnapshot {
    /// How many there are.
    pub keys: usize,
    /// How long ago they were fetched; none where they never were.
    pub age: Option<TimeDelta>,
    /// Whether they are beyond the time that the provider gave them, or there are none.
    pub is_degraded: bool,
    /// Fetches that succeeded.
    pub fetched_total: u64,
    /// Fetches that failed.
    pub failed_total: u64,
}

struct Held {
    keys: Arc<Keys>,
    generation: u64,
    fetched_at: DateTime<Utc>,
    fresh_until: DateTime<Utc>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// When the last fetch began, and whether it is still under way.
    tried_at: Option<DateTime<Utc>>,
    is_under_way: bool,
    /// How many fetches have ended.
    ended: u64,
    failures_in_a_row: u32,
    /// Whether the log knows that there are no keys any more.
    is_told_over: bool,
    /// When the background fetches next.
    next_at: Option<DateTime<Utc>>,
}

/// The provider.
pub(super) struct Provider {
    address: String,
    client: Client,
    outlive: TimeDelta,
    state: RwLock<State>,
    fetching: Mutex<()>,
    waiting: Arc<Semaphore>,
    fetched_total: AtomicU64,
    failed_total: AtomicU64,
}

impl Provider {
    /// Begins to fetch the keys, and goes on until the last handle is dropped. Fails where there is no client to fetch with:
    /// a service that can never tell its end users apart does not start.
    pub(super) fn start(store: &Store, address: &str) -> utxoiq_store::Result<Arc<Self>> {
        use_ring();
        let client = Client::builder()
            .user_agent(concat!("utxoiq-store/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| {
                Error::new(
                    Kind::Internal,
                    "identity_provider_client",
                    "the client that the identity provider's keys are fetched with cannot be made: check that the system's certificates are installed, or that SSL_CERT_FILE names a file of them",
                )
                .with_source(error)
            })?;
        let provider = Arc::new(Self {
            address: address.to_owned(),
            client,
            outlive: TimeDelta::hours(i64::from(store.config().oidc.keys_outlive_hours)),
            state: RwLock::default(),
            fetching: Mutex::default(),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            fetched_total: AtomicU64::new(0),
            failed_total: AtomicU64::new(0),
        });
        let (weak, clock) = (Arc::downgrade(&provider), store.clock());
        tokio::spawn(async move {
            while let Some(provider) = weak.upgrade() {
                provider.keep(clock.now()).await;
                drop(provider);
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(provider)
    }

    /// The keys that may be used at `now`.
    pub(super) fn present(&self, now: DateTime<Utc>) -> Option<Present> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let held = state.held.as_ref()?;
        (now < held.fresh_until + self.outlive).then(|| Present {
            keys: Arc::clone(&held.keys),
            generation: held.generation,
        })
    }

    /// Fetches anew for somebody who misses a key, if that is to be done now, and waits for it. `false` where too many
    /// wait already.
    pub(super) async fn renew(self: &Arc<Self>, now: DateTime<Utc>) -> bool {
        let ended = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if !state.is_under_way && !state.may_try(now) {
                return true;
            }
            state.ended
        };
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return false;
        };
        let provider = Arc::clone(self);
        // A task of its own: who asked may go away, and what was begun is ended, and counts.
        let renewed = tokio::spawn(async move {
            let _only = provider.fetching.lock().await;
            let is_due = provider.change(|state| state.ended == ended && state.may_try(now));
            if is_due {
                provider.fetch(now).await;
            }
            drop(place);
        });
        renewed.await.is_ok()
    }

    /// Fetches, if that is due.
    async fn keep(&self, now: DateTime<Utc>) {
        let is_due = |state: &mut State| state.is_due(now);
        if !self.change(is_due) {
            return;
        }
        let _only = self.fetching.lock().await;
        // Somebody else's fetch may have been waited for.
        if self.change(is_due) {
            self.fetch(now).await;
        }
    }

    /// One fetch; the caller holds the lock.
    async fn fetch(&self, now: DateTime<Utc>) {
        self.change(|state| {
            state.put_back(now);
            state.tried_at = Some(now);
            state.is_under_way = true;
        });
        let fetched = self.ask().await;
        let counter = match fetched {
            Ok(_) => &self.fetched_total,
            Err(_) => &self.failed_total,
        };
        counter.fetch_add(1, Relaxed);
        self.change(|state| {
            state.is_under_way = false;
            state.ended += 1;
            match fetched {
                Ok((keys, seconds)) => state.take(keys, TimeDelta::seconds(seconds), now),
                Err(why) => state.fail(&why, self.outlive, now),
            }
        });
    }

    /// Asks the provider; gives its keys, and for how many seconds they are good.
    async fn ask(&self) -> Result<(Keys, i64), String> {
        let unreachable = |error: reqwest::Error| {
            let kind = if error.is_timeout() {
                "it did not answer in time"
            } else {
                "it could not be reached"
            };
            format!("{kind}: {}", causes(&error.without_url()))
        };
        let mut response = self
            .client
            .get(&self.address)
            .send()
            .await
            .map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!(
                    "it answered {status}: set oidc.jwks_url to where the keys are, redirections are not followed"
                ));
            }
            status => return Err(format!("it answered {status}")),
        }
        let control = response.headers().get(header::CACHE_CONTROL);
        let age = response.headers().get(header::AGE);
        let text = |value: Option<&header::HeaderValue>| {
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let seconds = good_for(&text(control), &text(age));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_SET {
                return Err("it answers more than a megabyte".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((Keys::read(&body)?, seconds))
    }

    /// How it stands at `now`.
    pub(super) fn snapshot(&self, now: DateTime<Utc>) -> KeysSnapshot {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let held = state.held.as_ref();
        KeysSnapshot {
            keys: held.map_or(0, |held| held.keys.count()),
            age: held.map(|held| now - held.fetched_at),
            is_degraded: held.is_none_or(|held| held.fresh_until <= now),
            fetched_total: self.fetched_total.load(Relaxed),
            failed_total: self.failed_total.load(Relaxed),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Whether the last fetch is long enough ago. A clock that was put back holds nothing up.
    fn may_try(&self, now: DateTime<Utc>) -> bool {
        self.tried_at.is_none_or(|at| (now - at).abs() >= PAUSE)
    }

    /// Whether the background fetches now. What was planned by a clock that has been put back since is no plan any more; by
    /// less than [`PAUSE`] it does not matter.
    fn is_due(&self, now: DateTime<Utc>) -> bool {
        let is_put_back = self.tried_at.is_some_and(|at| at > now + PAUSE);
        is_put_back || self.next_at.is_none_or(|at| at <= now)
    }

    /// Keys that were fetched later than now, by a clock that has been put back since, are not good for longer than from now.
    fn put_back(&mut self, now: DateTime<Utc>) {
        if let Some(held) = self.held.as_mut().filter(|held| held.fetched_at > now) {
            held.fresh_until = now + (held.fresh_until - held.fetched_at);
            held.fetched_at = now;
        }
    }

    fn take(&mut self, keys: Keys, good_for: TimeDelta, now: DateTime<Utc>) {
        let before = self.held.take();
        let generation = before.as_ref().map_or(0, |held| held.generation);
        let is_other = before.is_none_or(|held| *held.keys != keys);
        if is_other || self.failures_in_a_row > 0 {
            tracing::info!(
                keys = keys.count(),
                "the identity provider's keys are there"
            );
        }
        self.held = Some(Held {
            keys: Arc::new(keys),
            generation: generation + u64::from(is_other),
            fetched_at: now,
            fresh_until: now + good_for,
        });
        self.failures_in_a_row = 0;
        self.next_at = Some(now + good_for * 4 / 5);
    }

    fn fail(&mut self, why: &str, outlive: TimeDelta, now: DateTime<Utc>) {
        let held = self.held.as_ref();
        let until = held.map(|held| held.fresh_until + outlive);
        // Told once, about once an hour, and when it comes to the worst.
        if self.failures_in_a_row.is_multiple_of(60) {
            self.is_told_over = false;
            if let Some(until) = until {
                let until = until.to_rfc3339();
                tracing::warn!(
                    why,
                    keys_work_until = until,
                    "the identity provider's keys cannot be renewed"
                );
            }
        }
        if until.is_none_or(|until| until <= now) && !self.is_told_over {
            self.is_told_over = true;
            tracing::error!(
                why,
                "the identity provider's keys cannot be had: no end user is let in"
            );
        }
        let doubled = FIRST_RETRY_SECONDS << self.failures_in_a_row.min(4);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.next_at = Some(now + TimeDelta::seconds(doubled.min(LONGEST_RETRY_SECONDS)));
    }
}

/// For how many seconds an answer is good, by its headers.
fn good_for(cache_control: &str, age: &str) -> i64 {
    let directives = || cache_control.split(',').map(str::trim);
    let is = |name: &str| directives().any(|one| one.eq_ignore_ascii_case(name));
    if is("no-store") || is("no-cache") {
        return SHORTEST;
    }
    let said = directives().find_map(|one| {
        let (name, value) = one.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u32>().ok()?;
        name.trim()
            .eq_ignore_ascii_case("max-age")
            .then_some(i64::from(seconds))
    });
    let age = age.trim().parse::<u32>().map_or(0, i64::from);
    said.map_or(UNSAID, |seconds| (seconds - age).clamp(SHORTEST, LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_good_for_a_minute_to_a_day_as_the_provider_says() {
        for (control, age, seconds) in [
            (
                "public, max-age=19302, must-revalidate, no-transform",
                "",
                19_302,
            ),
            ("max-age=19302", "302", 19_000),
            ("Max-Age=\"600\"", "x", 600),
            ("max-age=1", "", 60),
            ("max-age=600", "4294967295", 60),
            ("max-age=4294967295", "", 86_400),
            ("max-age=99999999999999", "", 3_600),
            ("max-age=-5", "", 3_600),
            ("max-age=600, no-store", "", 60),
            ("s-maxage=700", "", 3_600),
            ("", "", 3_600),
        ] {
            assert_eq!(good_for(control, age), seconds, "{control}");
        }
    }
}
