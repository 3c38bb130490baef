//! Retention against a real database and a folder as cold storage.

mod boundaries;
mod holds;
mod moves;
mod privileges;
mod readers;
mod rights;
mod slots;
mod stores;
mod years;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    clock::FixedClock,
    cold::ColdStore,
    db::roles,
    metrics::{Accept, Batch, NewSample, SeriesName, micros},
    retention::Report,
};

use utxoiq_store_testkit::FaultyStore;

use crate::support::TestDb;

pub use crate::feedback::number;

/// Who runs retention in these tests.
pub const ACTOR: &str = "test: ann";

/// A database, a cold store of its own, and a clock that is put forward by hand.
pub struct House {
    pub db: TestDb,
    pub store: Store,
    pub clock: FixedClock,
    pub admin: Client,
    pub cold: TempDir,
    /// Copies of objects, where the store is a faulty one.
    pub cache: TempDir,
}

/// A day's beginning.
pub fn start(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

pub fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

impl House {
    /// Begins on a day.
    pub async fn on(today: &str) -> Self {
        Self::with(today, &[]).await
    }

    /// The same with other settings.
    pub async fn with(today: &str, more: &[(&str, &str)]) -> Self {
        let db = TestDb::new().await;
        let cold = TempDir::new().unwrap();
        let clock = FixedClock::at(start(day(today)));
        let admin = db.admin().await;
        // Nothing here is about a server that dies: it need not wait for its disk.
        let quick = format!("alter database {} set synchronous_commit = off", db.name());
        admin.batch_execute(&quick).await.unwrap();
        drop(admin);
        let store = open(&db, &cold, &clock, more);
        let admin = db.admin().await;
        Self {
            db,
            store,
            clock,
            admin,
            cold,
            cache: TempDir::new().unwrap(),
        }
    }

    /// The same over a store that fails and lies on demand; each request to it has so much time.
    pub async fn over_faulty(
        today: &str,
        timeout: Duration,
        more: &[(&str, &str)],
    ) -> (Self, FaultyStore) {
        let mut house = Self::with(today, more).await;
        let folder = LocalFileSystem::new_with_prefix(house.cold.path()).unwrap();
        let faulty = FaultyStore::over(Arc::new(folder));
        let cold = ColdStore::over(
            Arc::new(faulty.clone()),
            "",
            &house.cache.path().join("copies"),
            1 << 30,
        );
        let cold = cold.unwrap().with_timeout(timeout);
        house.store = house.store.with_cold(Some(cold));
        (house, faulty)
    }

    /// Another process on the same database and cold store.
    pub fn another(&self) -> Store {
        self.another_with(&[])
    }

    /// The same with other settings.
    pub fn another_with(&self, more: &[(&str, &str)]) -> Store {
        open(&self.db, &self.cold, &self.clock, more)
    }

    /// Goes on to two o'clock of a day, and runs retention.
    pub async fn run_on(&self, today: NaiveDate) -> Report {
        let now = start(today) + TimeDelta::hours(2);
        self.clock.set(now);
        let retention = self.store.retention().unwrap();
        retention.run(now, ACTOR).await.unwrap()
    }

    /// Records samples of a series, one at each of these times, and rolls the day up two days later.
    pub async fn samples(&self, host: &str, times: &[DateTime<Utc>]) {
        let mut batch = Batch::default();
        let series = batch.series(SeriesName {
            service_name: "api".into(),
            metric_type: "latency".into(),
            unit: "ms".into(),
            labels: BTreeMap::from([("host".to_owned(), host.to_owned())]),
        });
        for (at, number) in times.iter().zip(0_i32..) {
            batch.push(NewSample {
                series,
                at: Some(micros(*at)),
                value: f64::from(number) * 0.5 - 1.0,
                metadata: (number % 3 == 0).then(|| format!(r#"{{"n":{number},"ü":"☃"}}"#).into()),
            });
        }
        let now = *times.iter().max().unwrap();
        let recorded = self
            .store
            .metrics()
            .record(batch, Accept::Partial, None, now)
            .await;
        recorded.unwrap();
    }

    /// Rolls up everything before a day's beginning.
    pub async fn roll_up_to(&self, today: NaiveDate) {
        crate::metrics::roll(&self.store, start(today) + TimeDelta::minutes(5)).await;
    }

    /// What time it is.
    pub fn clock_now(&self) -> DateTime<Utc> {
        self.store.now()
    }

    /// One number.
    pub async fn number(&self, sql: &str) -> i64 {
        number(&self.admin, sql).await
    }

    /// Files of the cold store that end so.
    pub fn objects(&self, ending: &str) -> Vec<String> {
        fn walk(folder: &std::path::Path, root: &std::path::Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(self.cold.path(), self.cold.path(), &mut found);
        found.retain(|name| name.ends_with(ending));
        found.sort();
        found
    }

    /// A row of feedback as it was last changed at a time; the acts are in the history, too.
    pub async fn feedback(&self, insight: &str, user: &str, rating: i16, at: DateTime<Utc>) {
        let sql = "insert into insight_feedback (insight_id, user_id, rating, rated_at, comment, commented_at, created_at, updated_at)
                   values ($1, $2, $3, $4, 'said ' || $1, $4, $4, $4)";
        self.admin
            .execute(sql, &[&insight, &user, &rating, &at])
            .await
            .unwrap();
    }

    /// A job with its attempts, an error and a checkpoint.
    pub async fn job(&self, job_type: &str, status: &str, at: DateTime<Utc>) -> uuid::Uuid {
        let id = uuid::Uuid::new_v4();
        let ended: Option<DateTime<Utc>> =
            matches!(status, "completed" | "failed" | "cancelled").then_some(at);
        let sql = "insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
                       attempt_covered_blocks, claim_epoch, error_message, paused_by, started_at, progressed_at, heard_at, ended_at)
                   values ($1, $2, 0, 99, $3, case when $3 = 'completed' then '{[0,99]}' else '{[0,9],[20,29]}' end::int8multirange, 2, $4,
                       0, 7, case $3 when 'failed' then 'it broke' end, case $3 when 'paused' then 'operator' end, $4, $4, $4, $5)";
        self.admin
            .execute(sql, &[&id, &job_type, &status, &at, &ended])
            .await
            .unwrap();
        for sql in [
            "insert into backfill_attempts values ($1, 1, $2, 0, $2, 'failed', 'first'), ($1, 2, $2, 10, null, null, null)",
            "insert into backfill_errors (job_id, attempt, blocks, worker, try, message, occurred_at)
             values ($1, 1, '[3,5)', 'w \"1\"', 1, 'no such blöck', $2)",
            "insert into backfill_checkpoints values ($1, 9, 'ab12', $2)",
        ] {
            self.admin.execute(sql, &[&id, &at]).await.unwrap();
        }
        id
    }

    /// Everything that an audit says is in order.
    pub async fn assert_chain(&self) {
        let verified = self.store.audit().verify(&[]).await.unwrap();
        assert!(verified.faults.is_empty(), "{:?}", verified.faults);
        assert!(verified.entries > 0);
    }
}

fn open(db: &TestDb, cold: &TempDir, clock: &FixedClock, more: &[(&str, &str)]) -> Store {
    let url = db.url_of(roles::RETENTION);
    let folder = format!("file://{}", cold.path().display());
    let own = [
        ("UTXOIQ_STORE_DATABASE__RETENTION_URL", url.as_str()),
        ("UTXOIQ_STORE_COLD__URL", folder.as_str()),
        (
            "UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY",
            "a key of at least thirty-two characters",
        ),
    ];
    let settings = db.settings_with(&[&own[..], more].concat());
    Store::with_clock(settings, Arc::new(clock.clone())).unwrap()
}

/// A day so many days after another.
pub fn after(day: NaiveDate, days: u64) -> NaiveDate {
    day + Days::new(days)
}
