//! The watch over the backups (C8.5): a loop of its own in every process, beside the schedule, since what it has to notice is that
//! the schedule, the database or another process does nothing.
//!
//! Each look gathers facts, lets [`backup::watch`](crate::backup::watch) judge them, and hands what is wrong to the alerts. Where the
//! database does not answer, what was known last is judged, with the time as it is now, and told from memory.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::{
    Error, Result, Store,
    alert::{Condition, Filter, Severity},
    backup::{
        History, Inventory,
        watch::{self, Facts, Place, Unreachable},
    },
    clock::uuid_at,
};

/// How often it is looked: what is wrong is told within five minutes.
const EVERY: Duration = Duration::from_secs(30);

/// How often the stores are listed: a request for a thousand objects.
const INVENTORY_EVERY: TimeDelta = TimeDelta::seconds(120);

/// How long the database, the stores and the receivers may hold a look up: what does not answer must not keep the rest from being
/// told in time.
const DATABASE_WITHIN: Duration = Duration::from_secs(20);
const STORES_WITHIN: Duration = Duration::from_secs(20);
const RECEIVERS_WITHIN: Duration = Duration::from_mins(1);

/// How often it is asked where the stores lie.
const PLACES_EVERY: TimeDelta = TimeDelta::hours(1);

/// How often somebody outside is told that the watch goes on.
const HEARTBEAT_EVERY: TimeDelta = TimeDelta::seconds(60);

/// How long one heartbeat may take.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(6);

/// Whose alerts these are.
const SOURCE: &str = "backups";

/// The most alerts that are looked through for open ones.
const MOST_OPEN: i64 = 1_000;

/// What a watch remembers between two looks.
pub struct Watch {
    store: Store,
    id: Uuid,
    /// Since when it watches: what is due from here on has to come, also where no schedule ever ran.
    began_at: Option<DateTime<Utc>>,
    history: History,
    open: BTreeSet<String>,
    inventory: Option<(DateTime<Utc>, Inventory)>,
    /// What the inventory before that found.
    before: Inventory,
    places: Option<(DateTime<Utc>, Vec<Place>)>,
    away: Option<Unreachable>,
    beaten_at: Option<DateTime<Utc>>,
    /// How many inventories there were.
    inventories: u32,
    /// Since when the stores could not be listed.
    unlisted: Option<Unreachable>,
}

impl Watch {
    /// A watch that has seen nothing yet.
    pub fn new(store: Store) -> Self {
        Self {
            id: uuid_at(store.now()),
            store,
            began_at: None,
            history: History::default(),
            open: BTreeSet::new(),
            inventory: None,
            before: Inventory::default(),
            places: None,
            away: None,
            beaten_at: None,
            inventories: 0,
            unlisted: None,
        }
    }

    /// Looks once, and tells what is wrong at `now`; gives the keys of that.
    pub async fn look(&mut self, now: DateTime<Utc>) -> Vec<String> {
        self.began_at.get_or_insert(now);
        let is_there = within(DATABASE_WITHIN, "the database", self.gather(now)).await;
        if let Err(error) = &is_there {
            tracing::warn!(error = %error.report(), "the watch over the backups could not ask the database");
            let away = self.away.get_or_insert(Unreachable {
                since: now,
                looks: 0,
            });
            away.looks += 1;
        } else {
            self.away = None;
        }
        self.look_at_stores(now).await;
        let settings = self.store.backups().watch_settings();
        let conditions = watch::conditions(now, &self.facts(), &settings);
        self.tell(&conditions, is_there.is_ok(), now).await;
        let is_critical = |one: &Condition| one.severity == Severity::Critical;
        self.beat(now, conditions.len(), conditions.iter().any(is_critical))
            .await;
        conditions
            .into_iter()
            .map(|condition| condition.key)
            .collect()
    }

    fn facts(&self) -> Facts {
        let backups = self.store.backups();
        let mut missing = self.history.damaged.clone();
        if let Some((_, found)) = &self.inventory {
            // Seen twice: a backup that is being pruned is in the history for a moment longer than in the store.
            let seen = found.and_before(&self.before);
            missing.extend(backups.missing(&self.history.runs, &seen));
        }
        // Whatever is the first sign of it: the schedule's, a run, or that it is watched.
        let first_run = self.history.runs.iter().map(|run| run.started_at).min();
        let signs = [self.history.configured_at, first_run, self.began_at];
        let configured_at = signs.into_iter().flatten().min();
        Facts {
            configured_at: configured_at.filter(|_| backups.is_configured()),
            runs: self.history.runs.clone(),
            proofs: self.history.proofs.clone(),
            missing,
            unreachable: self.away,
            unlisted: self.unlisted,
            places: self
                .places
                .as_ref()
                .map_or_else(Vec::new, |(_, places)| places.clone()),
            open: self.open.clone(),
        }
    }

    /// Hands what is wrong to the alerts; from memory where the database does not take it.
    async fn tell(&self, conditions: &[Condition], is_there: bool, now: DateTime<Utc>) {
        let alerts = self.store.alerts();
        if is_there {
            let pool = self.store.pool();
            let told = async {
                let unjudged = self.unjudged();
                let observed = alerts.observe_partly(pool, SOURCE, conditions, &unjudged, now);
                let observed = within(DATABASE_WITHIN, "the database", observed).await;
                let delivered = alerts.deliver(pool, now);
                let delivered = within(RECEIVERS_WITHIN, "the database", delivered).await;
                observed.map(|_| ()).and(delivered.map(|_| ()))
            };
            match told.await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(error = %error.report(), "alerts could not be kept in the database; they are sent from memory");
                }
            }
        }
        alerts
            .deliver_without_database(SOURCE, conditions, now)
            .await;
    }

    /// The keys of open alerts about what this process cannot judge: another one may, and its alerts are not this one's to end.
    fn unjudged(&self) -> Vec<&str> {
        let backups = self.store.backups();
        let has_seen = self.inventories >= 2 && self.unlisted.is_none();
        let is_judged = |key: &str| {
            let kind = key.split(':').next().unwrap_or_default();
            match kind {
                "backups_not_configured" => true,
                _ if !backups.is_configured() => false,
                "backup_object_missing" | "backup_manifest_missing" | "backup_copy_gone" => {
                    has_seen
                }
                "backup_damaged" => has_seen,
                _ => true,
            }
        };
        self.open
            .iter()
            .map(String::as_str)
            .filter(|key| !is_judged(key))
            .collect()
    }

    /// What the database says. Nothing is forgotten where it says nothing.
    async fn gather(&mut self, now: DateTime<Utc>) -> Result<()> {
        self.history = self.store.backups().history(now).await?;
        let pool = self.store.pool();
        let page = self
            .store
            .alerts()
            .list(pool, Filter::Open, MOST_OPEN, 0)
            .await?;
        self.open = page
            .alerts
            .into_iter()
            .map(|listed| listed.alert.key)
            .collect();
        Ok(())
    }

    async fn look_at_stores(&mut self, now: DateTime<Utc>) {
        let backups = self.store.backups();
        if !backups.is_configured() {
            return;
        }
        let is_due = |last: Option<DateTime<Utc>>, every| {
            last.is_none_or(|last| now < last || now - last >= every)
        };
        let every = match &self.inventory {
            _ if self.unlisted.is_some() => TimeDelta::zero(),
            // What was found is looked at again at the next look.
            Some((_, found)) if found.faults != self.before.faults => TimeDelta::zero(),
            _ => INVENTORY_EVERY,
        };
        if self.away.is_none() && is_due(self.inventory.as_ref().map(|(at, _)| *at), every) {
            match within(STORES_WITHIN, "the object store", backups.inventory()).await {
                Ok(found) => {
                    let last = self.inventory.replace((now, found));
                    self.before = last.map(|(_, last)| last).unwrap_or_default();
                    self.inventories = self.inventories.saturating_add(1);
                    self.unlisted = None;
                }
                Err(error) => {
                    let unlisted = self.unlisted.get_or_insert(Unreachable {
                        since: now,
                        looks: 0,
                    });
                    unlisted.looks += 1;
                    tracing::warn!(error = %error.report(), "the stores of the backups could not be listed");
                }
            }
        }
        if is_due(self.places.as_ref().map(|(at, _)| *at), PLACES_EVERY) {
            self.places = Some((now, backups.places().await));
        }
    }

    async fn beat(&mut self, now: DateTime<Utc>, wrong: usize, is_critical: bool) {
        let is_due = self
            .beaten_at
            .is_none_or(|last| now < last || now - last >= HEARTBEAT_EVERY);
        if is_due {
            self.beaten_at = Some(now);
            let text = format!("{wrong} things are wrong with the backups");
            let (heartbeat, id) = (self.store.alerts().watch_heartbeat().clone(), self.id);
            // What is critical fails it, so that it is heard of there, too, where nobody else takes what is told.
            let told = async {
                if is_critical {
                    heartbeat.failure(id, &text).await
                } else {
                    heartbeat.success(id, &text).await
                }
            };
            // A receiver that hangs must not hold the looks up; the next minute has another heartbeat.
            if tokio::time::timeout(HEARTBEAT_WITHIN, told).await.is_err() {
                tracing::warn!("the heartbeat of the watch was not taken in time");
            }
        }
    }
}

/// A bounded time for something.
async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| {
        Err(Error::unavailable(
            "no_answer",
            format!("{what} did not answer within {} s", limit.as_secs()),
        ))
    })
}

/// Looks until the caller drops it. A fault in a look of its own does not end it.
pub async fn watch_forever(store: Store) {
    let mut watch = Watch::new(store.clone());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let look = AssertUnwindSafe(watch.look(store.now()));
        if look.catch_unwind().await.is_err() {
            tracing::error!("the watch over the backups panicked; it begins anew");
            let began_at = watch.began_at;
            watch = Watch::new(store.clone());
            watch.began_at = began_at;
        }
    }
}
