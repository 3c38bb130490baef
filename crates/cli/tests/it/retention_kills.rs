//! Rows are hot or cold, once, whenever the run of retention is killed.
//!
//! Each round lays rows of every dataset on days of its own and kills `utxoiq-store retention run` with -9 in a given state of
//! a given dataset's archive. Transitions are slowed down, so that the kill falls before, into or after one: what the
//! database was asked for it may still carry out. Then a run goes through, and at the end everything that was ever laid is
//! looked for in the tables and in the objects.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::{Days, NaiveDate};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    cold::Dataset,
    retention::{Archive, State},
};
use utxoiq_store_testkit::urls;

use crate::support::Service;

/// In which state of which dataset's archive the run is killed.
const TARGETS: [(Dataset, State); 12] = [
    (Dataset::Metrics, State::Writing),
    (Dataset::Metrics, State::Proved),
    (Dataset::Metrics, State::Detached),
    (Dataset::Metrics, State::Archived),
    (Dataset::Metrics, State::Expired),
    (Dataset::BackfillJobs, State::Writing),
    (Dataset::BackfillJobs, State::Proved),
    (Dataset::BackfillJobs, State::Archived),
    (Dataset::Feedback, State::Writing),
    (Dataset::Feedback, State::Proved),
    (Dataset::Feedback, State::Archived),
    (Dataset::FeedbackHistory, State::Proved),
];

/// Every change of an archive takes a moment.
const SLOW: &str = "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.04); return new; end $$;
                    create trigger slow before insert or update on archives for each row execute function slow()";

struct World {
    service: Service,
    store: Store,
    admin: Client,
    today: NaiveDate,
    /// How many rows of each table were ever laid, without those that expired.
    laid: BTreeMap<&'static str, i64>,
}

impl World {
    async fn new() -> Self {
        let service = Service::start(&[("SCHEDULE__ENABLED", "false")]).await;
        let admin = service.admin().await;
        admin.batch_execute(SLOW).await.unwrap();
        let store = service.store();
        Self {
            today: store.now().date_naive(),
            store,
            admin,
            service,
            laid: BTreeMap::new(),
        }
    }

    async fn number(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Lays rows that are due: of each dataset those of one day.
    async fn lay(&mut self, round: u64, expires: bool) {
        let age = if expires { 460 } else { 100 } + round;
        let day = self.today - Days::new(age);
        let sql = format!(
            "select metric_make_day('{day}', now());
             insert into metric_services values ('api', now()) on conflict do nothing;
             insert into metric_series (service_name, metric_type, unit, labels, created_at)
                 select 'api', 'latency', 'ms', jsonb_build_object('host', h), now() from generate_series(1, 3) h
                 on conflict do nothing;
             insert into system_metrics (series_id, sampled_at, value, metadata)
                 select s.id, '{day} 00:00:00Z'::timestamptz + n * interval '7 minutes 1 microsecond', n + s.id / 10.0,
                        case when n % 5 = 0 then jsonb_build_object('n', n) end
                 from metric_series s, generate_series(0, 199) n;
             insert into insight_feedback (insight_id, user_id, rating, rated_at, comment, commented_at, created_at, updated_at)
                 select 'insight-' || n % 3, 'user-{round}-' || n, n % 5 + 1, t, 'said', t, t, t
                 from generate_series(0, 24) n, lateral (select ('{}'::date + n * interval '1 minute') at time zone 'UTC' as t) x;
             insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
                 attempt_covered_blocks, claim_epoch, started_at, progressed_at, heard_at, ended_at)
                 select gen_random_uuid(), 'blocks', 0, 9, 'cancelled', '{{}}', 1, t, 0, 0, t, t, t, t
                 from generate_series(0, 9) n, lateral (select '{} 12:00:00Z'::timestamptz as t) x;",
            self.today - Days::new(800 + round % 200),
            self.today - Days::new(190 + round),
        );
        self.admin.batch_execute(&sql).await.unwrap();
        for (table, rows) in [
            ("system_metrics", if expires { 0 } else { 600 }),
            ("insight_feedback", 25),
            ("feedback_history", 50),
            ("backfill_jobs", 10),
        ] {
            *self.laid.entry(table).or_default() += rows;
        }
        let now = self.store.now();
        while self.number("select count(*) from metric_marks").await > 0
            || self
                .number("select count(*) from metric_rollup_state where rolled_before < now() - interval '1 day'")
                .await
                > 0
        {
            self.store.metrics().roll_up(now, 10_000).await.unwrap();
        }
    }

    /// Starts a run, and kills it when an archive of this round is in the state; says whether it was seen there.
    async fn kill_at(&self, (dataset, state): (Dataset, State), pause: Duration) -> bool {
        let since: i64 = self.number("select count(*) from archives").await;
        let run = self.service.spawn(&["retention", "run", "--yes"]);
        let seen = format!(
            "select count(*) from (select * from archives order by began_at, id offset {since}) a where dataset = '{}' and state = '{state}'",
            dataset.name()
        );
        let started = Instant::now();
        let was_seen = loop {
            if self.number(&seen).await > 0 {
                break true;
            }
            if run.status().is_some() || started.elapsed() > Duration::from_mins(1) {
                break false;
            }
        };
        tokio::time::sleep(pause).await;
        run.kill9();
        run.wait(Duration::from_secs(10)).await.unwrap();
        // As after the lease.
        let lost = "update retention_runs set lease_expires_at = began_at where ended_at is null";
        self.admin.execute(lost, &[]).await.unwrap();
        was_seen
    }

    /// The archives that hold what is nowhere else.
    async fn archives(&self) -> Vec<Archive> {
        let retention = self.store.retention().unwrap();
        let sql = "select id from archives where state = 'archived' order by id";
        let mut archives = Vec::new();
        for row in self.admin.query(sql, &[]).await.unwrap() {
            archives.push(retention.archive(row.get(0)).await.unwrap());
        }
        archives
    }

    /// Everything that was ever laid is in a table or in one object, and no object is there that nobody knows.
    async fn check(&self) {
        let mut cold: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
        let mut objects = Vec::new();
        for archive in self.archives().await {
            objects.push(archive.object_key.clone());
            let fetched = self
                .store
                .cold()
                .unwrap()
                .fetch(&archive.stored().unwrap())
                .await
                .unwrap();
            let mut batches = fetched.rows().unwrap();
            let table = match archive.dataset {
                Dataset::Metrics => "system_metrics",
                Dataset::BackfillJobs => "backfill_jobs",
                Dataset::Feedback => "insight_feedback",
                Dataset::FeedbackHistory => "feedback_history",
            };
            let rows = cold.entry(table).or_default();
            while let Some(batch) = batches.next().await.unwrap() {
                for row in batch {
                    let key = match archive.dataset {
                        Dataset::Metrics => format!("{} {}", row["series_id"], row["sampled_at"]),
                        _ => row["id"].to_string(),
                    };
                    assert!(
                        rows.insert(key.clone(), row).is_none(),
                        "{key} is in two archives"
                    );
                }
            }
        }
        for (table, laid) in &self.laid {
            let hot = self.number(&format!("select count(*) from {table}")).await;
            let there = cold.get(table).map_or(0, BTreeMap::len);
            assert_eq!(
                hot + i64::try_from(there).unwrap(),
                *laid,
                "{table}: {hot} hot, {there} cold"
            );
            assert_eq!(hot, 0, "{table}: what is due was left");
        }
        let mut listed = walk(&self.service.path("cold"));
        listed.retain(|name| name.ends_with(".parquet"));
        objects.sort();
        assert_eq!(listed, objects, "objects that nobody knows, or lost ones");
        let detached = "select count(*) from pg_class c where relname ~ '^system_metrics_2' and relkind = 'r' and not relispartition";
        assert_eq!(self.number(detached).await, 0);
        assert!(self.store.feedback().drift(10).await.unwrap().is_empty());
        let ratings = "select sum(r)::bigint from (select unnest(retired[1:5]) as r from feedback_read_stats(array['insight-0', 'insight-1', 'insight-2'])) l";
        assert_eq!(self.number(ratings).await, self.laid["insight_feedback"]);
        let verified = self.store.audit().verify(&[]).await.unwrap();
        assert!(verified.faults.is_empty(), "{:?}", verified.faults);
    }
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn whatever_is_killed_no_row_is_lost_or_there_twice_and_the_next_run_finishes() {
    let mut random = StdRng::seed_from_u64(urls::seed());
    let mut world = World::new().await;
    let times = urls::scale(1, 20);
    let mut seen: BTreeMap<(Dataset, &str), u64> = BTreeMap::new();
    let mut round = 0;
    for target in TARGETS {
        let mut kills = 0;
        while kills < times {
            round += 1;
            assert!(round < 100 * times, "{target:?} is never seen");
            world.lay(round, target.1 == State::Expired).await;
            // Up to three steps further.
            let pause = Duration::from_millis(random.random_range(0..120));
            if world.kill_at(target, pause).await {
                kills += 1;
                *seen.entry((target.0, target.1.name())).or_default() += 1;
            }
            let (code, output) = world.service.run(&["retention", "run", "--yes"]).await;
            assert_eq!(code, 0, "after a kill at {target:?}: {output}");
        }
        world.check().await;
    }
    println!("killed at {seen:?}");
}
