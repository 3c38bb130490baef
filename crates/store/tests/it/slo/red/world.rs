//! A store of a test's own, in which something is broken.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    backfill::{BlockRange, Job, NewJob},
    clock::{Clock as _, FixedClock},
    slo::{Criterion, State},
};

use crate::support::TestDb;

/// Noon of the day on which things break.
pub fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A store of its own, with a clock that is put forward by hand.
pub struct World {
    pub db: TestDb,
    pub store: Store,
    pub clock: FixedClock,
    pub admin: Client,
}

impl World {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(vars: &[(&str, &str)]) -> Self {
        let db = TestDb::new().await;
        let clock = FixedClock::at(noon());
        let admin = db.admin().await;
        let store = open(&db, vars, &clock);
        Self {
            db,
            store,
            clock,
            admin,
        }
    }

    /// The same database, as another process with other settings sees it.
    pub fn another(&self, vars: &[(&str, &str)]) -> Store {
        open(&self.db, vars, &self.clock)
    }

    pub async fn sql(&self, sql: &str) {
        self.admin
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// How a criterion stands now; what was measured is written down first.
    pub async fn judged(&self, id: &str) -> Criterion {
        judged(&self.store, &self.clock, id).await
    }

    /// Whether a criterion stands as it should before it is broken, or this was the last of ten tries. On a machine that does much else it
    /// may take some, each on another day, so that what was measured on this one is not asked for.
    pub fn is_settled(&self, criterion: &Criterion, round: usize) -> bool {
        if criterion.state == State::Met || round == 9 {
            return true;
        }
        self.clock.advance(TimeDelta::hours(26));
        false
    }

    /// What a task that succeeds leaves.
    pub async fn task(&self, name: &str, cadence: &str, slot_at: &str) {
        self.sql(&format!(
            "insert into schedule_tasks (task, cadence, first_seen_at) values ('{name}', '{cadence}', '2026-01-01') on conflict do nothing;
             insert into schedule_slots (task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at, finished_at, outcome)
             values ('{name}', '{slot_at}', false, 'succeeded', 1, 'test', 1, 0, '{slot_at}'::timestamptz + interval '3 s',
                     '{slot_at}'::timestamptz + interval '3 s', '{slot_at}'::timestamptz + interval '9 s', '{{}}')"
        ))
        .await;
    }

    pub async fn retention_ran(&self) {
        self.task("run_retention", "daily at 02:00 UTC", "2026-11-23 02:00Z")
            .await;
    }
}

pub fn open(db: &TestDb, vars: &[(&str, &str)], clock: &FixedClock) -> Store {
    let vars: Vec<(String, &str)> = vars
        .iter()
        .map(|(name, value)| match *name {
            "DATABASE_URL" | "REDIS_URL" => ((*name).to_owned(), *value),
            name => (format!("UTXOIQ_STORE_{name}"), *value),
        })
        .collect();
    let vars: Vec<(&str, &str)> = vars
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    Store::with_clock(db.settings_with(&vars), std::sync::Arc::new(clock.clone())).unwrap()
}

pub async fn judged(store: &Store, clock: &FixedClock, id: &str) -> Criterion {
    store.slo().keep(clock.now()).await.unwrap();
    looked_at(store, clock, id).await
}

pub async fn looked_at(store: &Store, clock: &FixedClock, id: &str) -> Criterion {
    // A report of two seconds ago would be given again.
    clock.advance(TimeDelta::seconds(3));
    store.slo().criterion(id, clock.now(), None).await.unwrap()
}

/// How it stood before, and after it was broken.
pub type Seen = (Criterion, Criterion);

pub async fn job(store: &Store, now: DateTime<Utc>) -> Job {
    let new = NewJob {
        job_type: "blocks".to_owned(),
        blocks: BlockRange {
            start: 0,
            end: 1_000,
        },
        created_by: None,
    };
    store.backfill().start(&new, now).await.unwrap()
}
