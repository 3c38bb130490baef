//! An object store that fails, and one that lies: whatever it does, no row is lost or there twice, nothing leaves the database
//! unproved, the run says what was wrong, and the next one with a good store finishes and leaves nothing behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use chrono::{NaiveDate, TimeDelta};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::Mutex;
use utxoiq_store::{Store, cold::Dataset, retention::Archive};
use utxoiq_store_testkit::{Fault, FaultyStore, Request, urls};

use super::{ACTOR, House, day, start};

const TODAY: &str = "2026-06-15";

/// How long the store is waited for.
const PATIENCE: Duration = Duration::from_millis(250);

/// Tables, and where in them a row's day is told.
const TABLES: [(Dataset, &str); 4] = [
    (Dataset::Metrics, "system_metrics"),
    (Dataset::BackfillJobs, "backfill_jobs"),
    (Dataset::Feedback, "insight_feedback"),
    (Dataset::FeedbackHistory, "feedback_history"),
];

/// Samples of days before this one are gone by policy.
const GONE: &str = "'2025-03-18'::date";

struct Storm {
    house: House,
    faulty: FaultyStore,
    rounds: u32,
    laid: BTreeMap<&'static str, i64>,
    /// Another process, with a store that is good.
    good: Store,
    /// What objects hold that were read once.
    read: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Storm {
    async fn new() -> Self {
        let small = [("UTXOIQ_STORE_RETENTION__BATCH_ROWS", "5")];
        let (house, faulty) = House::over_faulty(TODAY, PATIENCE, &small).await;
        Self {
            good: house.another(),
            read: Mutex::default(),
            house,
            faulty,
            rounds: 0,
            laid: BTreeMap::new(),
        }
    }

    /// Lays rows that are due, of each dataset on one day; and a day of samples whose time in cold storage is up as well.
    async fn lay(&mut self) {
        let round = self.rounds;
        self.rounds += 1;
        let before = |age: u32| day(TODAY) - TimeDelta::days(i64::from(age + round));
        for (samples, hosts, count) in [(before(91), 2, 30), (before(455), 1, 2)] {
            self.samples(samples, hosts, count).await;
        }
        let (feedback, jobs) = (before(732), before(181));
        let sql = format!(
            "insert into insight_feedback (insight_id, user_id, rating, rated_at, comment, commented_at, created_at, updated_at)
                 select 'insight-' || n % 3, 'user-{round}-' || n, n % 5 + 1, t, 'said', t, t, t
                 from generate_series(0, 11) n, lateral (select ('{feedback} 10:00Z'::timestamptz + n * interval '1 minute') as t) x;
             insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
                 attempt_covered_blocks, claim_epoch, started_at, progressed_at, heard_at, ended_at)
                 select gen_random_uuid(), 'blocks', 0, 9, 'cancelled', '{{}}', 1, t, 0, 0, t, t, t, t
                 from generate_series(0, 3) n, lateral (select '{jobs} 12:00:00Z'::timestamptz as t) x"
        );
        self.house.admin.batch_execute(&sql).await.unwrap();
        for (table, rows) in [
            ("system_metrics", 60),
            ("insight_feedback", 12),
            ("feedback_history", 24),
            ("backfill_jobs", 4),
        ] {
            *self.laid.entry(table).or_default() += rows;
        }
        self.house.roll_up_to(day(TODAY)).await;
    }

    async fn samples(&self, of: NaiveDate, hosts: u32, count: u32) {
        let sql = format!(
            "select metric_make_day('{of}', '{of}');
             insert into metric_services values ('api', '{of}') on conflict do nothing;
             insert into metric_series (service_name, metric_type, unit, labels, created_at)
                 select 'api', 'latency', 'ms', jsonb_build_object('host', h), '{of}' from generate_series(1, {hosts}) h
                 on conflict do nothing;
             insert into system_metrics (series_id, sampled_at, value)
                 select s.id, '{of} 00:00:00Z'::timestamptz + n * interval '7 minutes', n
                 from (select id from metric_series order by id limit {hosts}) s, generate_series(1, {count}) n"
        );
        self.house.admin.batch_execute(&sql).await.unwrap();
    }

    /// Runs, in bounded time; and tells by which codes the run's record names what was wrong.
    async fn run(&self) -> BTreeSet<String> {
        self.house.clock.advance(TimeDelta::minutes(5));
        let began = Instant::now();
        let retention = self.house.store.retention().unwrap();
        let ran = retention
            .run(start(day(TODAY)) + TimeDelta::hours(2), ACTOR)
            .await;
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        let run = retention.runs(1).await.unwrap().remove(0);
        let results = run.results.unwrap();
        let failures = results["failures"].as_array().unwrap();
        let is_success = ran.is_ok_and(|report| report.is_success());
        assert_eq!(run.outcome.as_deref() == Some("success"), is_success);
        assert_eq!(failures.is_empty(), is_success, "{results}");
        failures
            .iter()
            .map(|failure| failure["code"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Rows of a table that are in the database, also in partitions that are out of it.
    async fn hot(&self, dataset: Dataset, table: &str) -> i64 {
        if dataset != Dataset::Metrics {
            return self
                .house
                .number(&format!("select count(*) from {table}"))
                .await;
        }
        let mut tables = vec![table.to_owned()];
        let sql = "select relname::text from pg_class where relname ~ '^system_metrics_[0-9]{8}$' and relkind = 'r' and not relispartition";
        let detached = self.house.admin.query(sql, &[]).await.unwrap();
        tables.extend(detached.iter().map(|row| row.get::<_, String>(0)));
        let mut rows = 0;
        for table in tables {
            let sql = format!("select count(*) from {table} where sampled_at >= {GONE}");
            rows += self.house.number(&sql).await;
        }
        rows
    }

    /// Rows of archives that hold what the database has no more, each read from the folder itself.
    async fn cold(&self, dataset: Dataset) -> i64 {
        let sql = format!(
            "select id from archives where dataset = '{}' and state = 'archived' and day >= case dataset when 'metrics' then {GONE} else '0001-01-01' end",
            dataset.name()
        );
        let retention = self.good.retention().unwrap();
        let (mut read, mut keys) = (self.read.lock().await, BTreeSet::new());
        for row in self.house.admin.query(&sql, &[]).await.unwrap() {
            let archive = retention.archive(row.get(0)).await.unwrap();
            let path = self.house.cold.path().join(&archive.object_key);
            assert!(path.exists(), "{} is lost", archive.object_key);
            if !read.contains_key(&archive.object_key) {
                read.insert(archive.object_key.clone(), self.keys(&archive).await);
            }
            for key in &read[&archive.object_key] {
                assert!(keys.insert(key.clone()), "{key} is in two archives");
            }
        }
        i64::try_from(keys.len()).unwrap()
    }

    /// The keys of an archive's rows.
    async fn keys(&self, archive: &Archive) -> Vec<String> {
        let stored = archive.stored().unwrap();
        let fetched = self.good.cold().unwrap().fetch(&stored).await.unwrap();
        let (mut batches, mut keys) = (fetched.rows().unwrap(), Vec::new());
        while let Some(batch) = batches.next().await.unwrap() {
            for row in batch {
                keys.push(match archive.dataset {
                    Dataset::Metrics => format!("{} {}", row["series_id"], row["sampled_at"]),
                    _ => row["id"].to_string(),
                });
            }
        }
        keys
    }

    /// Everything that was laid is there, once.
    async fn check(&self, what: &str) {
        for (dataset, table) in TABLES {
            let (hot, cold) = (self.hot(dataset, table).await, self.cold(dataset).await);
            assert_eq!(
                hot + cold,
                self.laid[table],
                "{what}: {table}: {hot} hot, {cold} cold"
            );
        }
        self.house.assert_chain().await;
    }

    /// And all of it is where it should be, and nothing else.
    async fn check_done(&self, what: &str) {
        self.check(what).await;
        for (dataset, table) in TABLES {
            assert_eq!(self.hot(dataset, table).await, 0, "{what}: {table}");
        }
        let sql = "select object_key from archives where state = 'archived' order by 1";
        let rows = self.house.admin.query(sql, &[]).await.unwrap();
        let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(self.house.objects(".parquet"), known, "{what}");
        let manifests: Vec<_> = known
            .iter()
            .map(|key| key.replace(".parquet", ".json"))
            .collect();
        assert_eq!(self.house.objects(".json"), manifests, "{what}");
        let left = "select count(*) from archives where state not in ('archived', 'expired', 'abandoned')
                        or (ended_at is not null and removed_at is null) or (state = 'expired' and archived_at is null)";
        assert_eq!(self.house.number(left).await, 0, "{what}");
        let drift = self.house.store.feedback().drift(10).await.unwrap();
        assert!(drift.is_empty(), "{what}: {drift:?}");
    }

    /// The store is good again: the next run finishes.
    async fn finish(&self, what: &str) {
        self.faulty.heal();
        let failures = self.run().await;
        assert!(failures.is_empty(), "{what}: {failures:?}");
        self.check_done(what).await;
    }

    /// Lets no archive of a dataset into a state, as if the run had been killed just before; or lets them again.
    async fn freeze(&self, state: Option<&str>) {
        let sql = match state {
            Some(state) => format!(
                "create function hold_on() returns trigger language plpgsql as $$ begin raise exception 'frozen'; end $$;
                 create trigger hold_on before update on archives for each row when (new.state = '{state}') execute function hold_on()"
            ),
            None => "drop function hold_on cascade".to_owned(),
        };
        self.house.admin.batch_execute(&sql).await.unwrap();
    }
}

const UNAVAILABLE: &str = "cold_store_unavailable";
const DIFFERS: &str = "cold_object_differs";
const MISSING: &str = "cold_object_missing";

#[tokio::test]
async fn whatever_the_store_does_wrong_nothing_leaves_unproved_and_the_next_run_finishes() {
    use Fault::{Append, FailAfter, FailBefore, Flip, Hang, Nothing, Truncate};
    let mut storm = Storm::new().await;
    for (request, fault, code) in [
        (Request::Put, FailBefore, UNAVAILABLE),
        (Request::Put, FailAfter, UNAVAILABLE),
        (Request::Put, Hang, UNAVAILABLE),
        (Request::Put, Nothing, MISSING),
        (Request::Put, Flip, DIFFERS),
        (Request::Put, Truncate, DIFFERS),
        (Request::Put, Append, DIFFERS),
        (Request::Get, FailBefore, UNAVAILABLE),
        (Request::Get, Hang, UNAVAILABLE),
        (Request::Get, Flip, DIFFERS),
        (Request::Get, Truncate, DIFFERS),
        (Request::Delete, FailBefore, UNAVAILABLE),
        (Request::Delete, FailAfter, UNAVAILABLE),
        (Request::Delete, Hang, UNAVAILABLE),
        (Request::Delete, Nothing, "cold_object_remains"),
    ] {
        let what = format!("{request:?} {fault:?}");
        storm.lay().await;
        storm.faulty.always(request, fault);
        let failures = storm.run().await;
        assert!(failures.contains(code), "{what}: {failures:?}");
        storm.check(&what).await;
        if request != Request::Delete {
            // No row moved: nothing was proved.
            for (dataset, table) in TABLES {
                let laid = i64::from(storm.rounds - 1);
                let hot = storm.hot(dataset, table).await;
                let (left, all) = (
                    storm.laid[table] / i64::from(storm.rounds),
                    storm.laid[table],
                );
                assert_eq!(hot, all - laid * left, "{what}: {table}");
            }
        }
        storm.finish(&what).await;
    }
    // The object alone, of which the manifest would tell nothing.
    for (fault, code) in [
        (FailAfter, UNAVAILABLE),
        (Nothing, MISSING),
        (Flip, DIFFERS),
        (Truncate, DIFFERS),
        (Append, DIFFERS),
    ] {
        let what = format!("object {fault:?}");
        storm.lay().await;
        storm.faulty.next(Request::Put, [Some(fault)]);
        let failures = storm.run().await;
        assert!(failures.contains(code), "{what}: {failures:?}");
        storm.check(&what).await;
        storm.finish(&what).await;
    }
    // The manifest alone.
    for fault in [FailBefore, FailAfter, Nothing, Flip, Truncate, Append, Hang] {
        let what = format!("manifest {fault:?}");
        storm.lay().await;
        storm.faulty.next(Request::Put, [None, Some(fault)]);
        let failures = storm.run().await;
        assert!(!failures.is_empty(), "{what}");
        storm.check(&what).await;
        storm.finish(&what).await;
    }
}

#[tokio::test]
async fn objects_that_are_lost_after_their_proof_are_written_anew() {
    let mut storm = Storm::new().await;
    // Proved and not moved: a run that was killed before the deletion, or the detachment.
    for (state, left) in [("archived", 3), ("detached", 1)] {
        for lie in [None, Some(Fault::Flip), Some(Fault::Truncate)] {
            let what = format!("{state} {lie:?}");
            storm.lay().await;
            storm.freeze(Some(state)).await;
            assert!(!storm.run().await.is_empty());
            storm.freeze(None).await;
            let sql = "select count(*) from archives where state in ('proved', 'detached')";
            assert!(storm.house.number(sql).await >= left, "{what}");
            let given_up = "select count(*) from audit_log where action in ('abandon', 'attach')";
            let before = storm.house.number(given_up).await;
            let frozen = "select object_key from archives where state in ('proved', 'detached')";
            for row in storm.house.admin.query(frozen, &[]).await.unwrap() {
                let key: String = row.get(0);
                match lie {
                    None => storm.faulty.lose(&key).await,
                    Some(_) => spoil(&storm.house.cold.path().join(key), lie),
                }
            }
            assert!(storm.run().await.is_empty(), "{what}");
            assert!(
                storm.house.number(given_up).await >= before + left,
                "{what}"
            );
            storm.check_done(&what).await;
        }
    }
}

fn spoil(path: &std::path::Path, how: Option<Fault>) {
    let mut bytes = std::fs::read(path).unwrap();
    match how {
        Some(Fault::Truncate) => bytes.truncate(bytes.len() - 1),
        _ => bytes[40] ^= 4,
    }
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn parts_of_a_large_object_that_fail_or_lie_are_found_out() {
    use Fault::{FailAfter, FailBefore, Flip, Hang, Nothing, Truncate};
    let mut storm = Storm::new().await;
    storm.lay().await;
    storm.finish("before").await;
    let of = day(TODAY) - TimeDelta::days(200);
    storm.samples(of, 1, 1).await;
    // Nothing that compresses: more than one part.
    let sql = format!(
        "insert into system_metrics (series_id, sampled_at, value, metadata)
         select id, '{of} 01:00:00Z'::timestamptz + n * interval '1 second', n,
                jsonb_build_object('noise', (select string_agg(md5(n::text || m::text), '') from generate_series(1, 110) m))
         from (select min(id) as id from metric_series) s, generate_series(1, 6000) n"
    );
    storm.house.admin.batch_execute(&sql).await.unwrap();
    *storm.laid.get_mut("system_metrics").unwrap() += 6_001;
    storm.house.roll_up_to(day(TODAY)).await;
    for (request, fault, code) in [
        (Request::Part, FailBefore, UNAVAILABLE),
        (Request::Part, Hang, UNAVAILABLE),
        (Request::Part, Flip, DIFFERS),
        (Request::Part, Truncate, DIFFERS),
        (Request::Part, Nothing, DIFFERS),
        (Request::Complete, FailAfter, UNAVAILABLE),
        (Request::Complete, Nothing, MISSING),
    ] {
        let what = format!("{request:?} {fault:?}");
        storm.faulty.next(request, [Some(fault)]);
        let failures = storm.run().await;
        assert!(storm.faulty.seen(request) > 0, "{what}");
        assert!(failures.contains(code), "{what}: {failures:?}");
        let hot = storm.hot(Dataset::Metrics, "system_metrics").await;
        assert_eq!(hot, 6_001, "{what}");
        storm.faulty.heal();
    }
    storm.finish("after").await;
}

#[tokio::test]
async fn a_storm_of_random_faults_loses_nothing() {
    use Fault::{Append, FailAfter, FailBefore, Flip, Hang, Nothing, Truncate};
    let mut random = StdRng::seed_from_u64(urls::seed());
    let mut storm = Storm::new().await;
    let mut faults = 0;
    for round in 0..urls::scale(12, 300) {
        storm.lay().await;
        let often = random.random_range(20..400);
        let kinds = [FailBefore, FailAfter, Nothing, Flip, Truncate, Append, Hang];
        for _ in 0..random.random_range(1..4) {
            storm.faulty.seeded(random.random(), often, &kinds);
            let before = storm.faulty.faults();
            let failures = storm.run().await;
            // What fails is told; a success met nothing that mattered.
            faults += storm.faulty.faults() - before;
            if failures.is_empty() && round > 0 {
                break;
            }
        }
        storm.faulty.heal();
        let what = format!("round {round}, {often} of a thousand");
        storm.check(&what).await;
        storm.finish(&what).await;
    }
    assert!(faults > 10, "{faults}");
}
