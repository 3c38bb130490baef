//! Partitions and the tasks of metrics: nobody waits for them.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    clock::FixedClock,
    db::roles,
    metrics::{Accept, RequestKey},
    schedule::{Scheduler, SlotOutcome, SlotResult},
    worker,
};
use utxoiq_store_testkit::urls::scale;

use super::{at, batch, noon, number, record, rollup::roll, series, store, store_all};
use crate::support::TestDb;

/// The days that have a partition.
async fn days(client: &Client) -> BTreeSet<NaiveDate> {
    let sql = "select to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') from pg_inherits
               where inhparent = 'system_metrics'::regclass";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A store whose clock stands at noon, and the schedule of all its tasks.
async fn scheduled() -> (TestDb, Store, Scheduler) {
    let db = TestDb::new().await;
    let store = db.store_at(Arc::new(FixedClock::at(noon()))).await;
    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(&store),
        store.config().schedule.clone(),
        "a test",
    )
    .unwrap();
    scheduler.register(noon()).await.unwrap();
    (db, store, scheduler)
}

async fn run(scheduler: &Scheduler, task: &str, now: DateTime<Utc>) -> SlotOutcome {
    scheduler.run_now(task, now).await.unwrap()
}

#[tokio::test]
async fn a_tick_makes_the_days_ahead_and_none_is_a_default() {
    let (db, store, scheduler) = scheduled().await;
    let admin = db.admin().await;
    // Until the next tick comes, an hour may pass: the last day still has its week.
    for hours in [1, 24, 25] {
        let now = noon() + TimeDelta::hours(hours);
        let outcomes = scheduler.tick(now).await.unwrap();
        let made = outcomes
            .iter()
            .find(|outcome| outcome.task == "make_metric_partitions");
        assert!(made.unwrap().result.is_success(), "{outcomes:?}");
        let there = days(&admin).await;
        let ahead = store.config().metrics.days_ahead;
        assert!(ahead >= 7);
        for day in 0..=ahead {
            let day = (now + TimeDelta::days(day)).date_naive();
            assert!(there.contains(&day), "{day} is missing in {there:?}");
        }
    }
    let sql = "select partdefid::int8 from pg_partitioned_table where partrelid = 'system_metrics'::regclass";
    assert_eq!(number(&admin, sql).await, 0);
}

#[tokio::test]
async fn making_days_waits_for_no_reader_or_writer_and_none_waits_for_it() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, [(at(0), 1.0)])).await;
    let (reader, writer) = (db.admin().await, db.client(roles::APP).await);
    let read = "select count(*) from system_metrics";
    reader.batch_execute("begin").await.unwrap();
    number(&reader, read).await;
    let insert = |second: i64| {
        format!(
            "insert into system_metrics (series_id, sampled_at, value) values (1, '2026-03-10T12:00:{second:02}Z', 1)"
        )
    };
    writer.batch_execute("begin").await.unwrap();
    writer.batch_execute(&insert(1)).await.unwrap();
    // They hold their locks on the parent while all days are made.
    let began = Instant::now();
    let made = store.metrics().make_days_ahead(noon()).await.unwrap();
    assert_eq!(made, 14);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );

    // Now one is being made, and has not ended.
    let maker = db.client(roles::APP).await;
    maker.batch_execute("begin").await.unwrap();
    let make = "select metric_make_day('2026-05-01', '2026-03-10T12:00:00Z')";
    maker.query_one(make, &[]).await.unwrap();
    let sql = "select mode from pg_locks where relation = 'system_metrics'::regclass and pid = $1 and granted";
    let pid: i32 = maker
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let held = reader.query(sql, &[&pid]).await.unwrap();
    let held: BTreeSet<String> = held.iter().map(|row| row.get(0)).collect();
    assert!(
        held.contains("ShareUpdateExclusiveLock")
            && held
                .iter()
                .all(|mode| ["AccessShareLock", "ShareUpdateExclusiveLock"].contains(&&**mode)),
        "{held:?}"
    );
    for client in [&reader, &writer] {
        let impatient = "set local lock_timeout = '200ms'; set local statement_timeout = '2s'";
        client.batch_execute(impatient).await.unwrap();
    }
    number(&reader, read).await;
    writer.batch_execute(&insert(2)).await.unwrap();
    let new = db.client(roles::APP).await;
    new.batch_execute("set lock_timeout = '200ms'")
        .await
        .unwrap();
    assert_eq!(number(&new, read).await, 1);
    store_all(&store, batch(&cpu, (10..200).map(|n| (at(-n), 1.0)))).await;
    for client in [&maker, &reader, &writer] {
        client.batch_execute("commit").await.unwrap();
    }
    assert_eq!(number(&new, read).await, 193);
}

/// The locks on the parent and on a day's partition that an intake holds in the middle of its COPY: it is stopped there, at
/// a place that somebody else is about to take.
async fn held_by_intake(db: &TestDb, store: &Store, hour: i64) -> Vec<(String, String)> {
    let (admin, holder) = (db.admin().await, db.admin().await);
    let first = noon() - TimeDelta::hours(hour);
    holder
        .batch_execute(&format!(
            "begin; insert into system_metrics_20260310 (series_id, sampled_at, value) values (1, '{}', 1)",
            first.to_rfc3339()
        ))
        .await
        .unwrap();
    let more = batch(
        &series("cpu", "a"),
        (0..100).map(|n| (at(n - hour * 3_600), 1.0)),
    );
    let recording = async { record(store, more).await.tally().stored };
    let looking = async {
        let sql = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'transactionid'";
        let pid: i32 = loop {
            if let Some(row) = admin.query_opt(sql, &[]).await.unwrap() {
                break row.get(0);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let sql = "select relation::regclass::text, mode from pg_locks
                   where relation in ('system_metrics'::regclass, 'system_metrics_20260310'::regclass)
                     and granted and pid = $1 order by 1";
        let held = admin.query(sql, &[&pid]).await.unwrap();
        holder.batch_execute("rollback").await.unwrap();
        held.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let (stored, held) = tokio::join!(recording, looking);
    assert_eq!(stored, 100);
    held
}

#[tokio::test]
async fn intake_takes_no_lock_on_the_parent_but_that_of_a_reader() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, (0..100).map(|n| (at(n), 1.0)))).await;
    let of = |table: &str, mode: &str| (table.to_owned(), mode.to_owned());
    let copied = of("system_metrics_20260310", "RowExclusiveLock");
    // A connection's first COPY into a day reads the day's bounds off the parent, as any reader does.
    let read = of("system_metrics", "AccessShareLock");
    for hour in 1..4 {
        let held = held_by_intake(&db, &store, hour).await;
        assert!(
            [vec![copied.clone()], vec![read.clone(), copied.clone()]].contains(&held),
            "{held:?}"
        );
    }
    // It does not notice one under which nobody writes through the parent, or changes it.
    let holder = db.admin().await;
    holder
        .batch_execute("begin; lock table only system_metrics in exclusive mode")
        .await
        .unwrap();
    let more = batch(&cpu, (0..100).map(|n| (at(n - 5 * 3_600), 1.0)));
    let recorded = tokio::time::timeout(Duration::from_secs(5), record(&store, more)).await;
    assert_eq!(recorded.unwrap().tally().stored, 100);
    holder.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn processes_that_make_the_same_days_at_once_make_each_once() {
    let (db, store) = store().await;
    let others = [db.store().await, db.store().await, db.store().await];
    let admin = db.admin().await;
    for round in 0..scale(3, 30) {
        let now = noon() + TimeDelta::days(i64::try_from(round).unwrap() * 15);
        let stores = std::iter::once(&store).chain(&others);
        let made = stores.map(async |store| store.metrics().make_days_ahead(now).await.unwrap());
        let made: u64 = join_all(made).await.into_iter().sum();
        assert_eq!(made, 15, "round {round}");
    }
    let made = days(&admin).await.len();
    assert_eq!(made, usize::try_from(scale(3, 30) * 15).unwrap());
    let noted = "select count(*) from metric_days where state = 'open'";
    assert_eq!(usize::try_from(number(&admin, noted).await).unwrap(), made);
}

#[tokio::test]
async fn the_nightly_verification_names_what_differs_and_makes_it_again() {
    let (db, store, scheduler) = scheduled().await;
    let cpu = series("cpu", "a");
    let samples = (0..3 * 24).map(|hour| (at(-hour * 3_600), hour as f64));
    store_all(&store, batch(&cpu, samples)).await;
    let outcome = run(&scheduler, "roll_up_metrics", noon()).await;
    assert!(outcome.result.is_success(), "{outcome:?}");
    roll(&store, noon()).await;
    let admin = db.admin().await;
    let unverified =
        "select count(*) from metric_days where verified_at is null and day < '2026-03-10'";
    assert_eq!(number(&admin, unverified).await, 3);
    let later = noon() + TimeDelta::hours(16);
    let outcome = run(&scheduler, "verify_metrics", later).await;
    assert!(outcome.result.is_success(), "{outcome:?}");
    assert_eq!(number(&admin, unverified).await, 0);

    // Past the triggers: the task looks again when the day is written into.
    admin
        .batch_execute(
            "update metric_rollups set sum = sum + 1 where hours = 1 and bucket = '2026-03-08T06:00:00Z';
             update metric_days set verified_at = null where day = '2026-03-08'",
        )
        .await
        .unwrap();
    let outcome = run(&scheduler, "verify_metrics", later).await;
    let named = "1 of 26 of 2026-03-08 (series 1 first; made again)";
    assert!(
        matches!(outcome.result, SlotResult::Failed { ref error, .. } if error.contains(named)),
        "{outcome:?}"
    );
    assert_eq!(number(&admin, unverified).await, 0);
    let outcome = run(&scheduler, "verify_metrics", later).await;
    assert!(outcome.result.is_success(), "{outcome:?}");
}

#[tokio::test]
async fn a_request_with_a_key_is_forgotten_after_its_hours_and_not_before() {
    let (db, store, scheduler) = scheduled().await;
    let key = RequestKey {
        caller: "a".into(),
        key: "k".into(),
        digest: [7; 32],
    };
    let one = batch(&series("cpu", "a"), [(at(0), 1.0)]);
    store
        .metrics()
        .record(one, Accept::Whole, Some(key), noon())
        .await
        .unwrap();
    let admin = db.admin().await;
    let kept = "select count(*) from metric_requests";
    for (seconds, left) in [(0, 1), (24 * 3_600, 1), (24 * 3_600 + 1, 0)] {
        let now = noon() + TimeDelta::seconds(seconds);
        let outcome = run(&scheduler, "prune_metric_requests", now).await;
        assert!(outcome.result.is_success(), "{outcome:?}");
        assert_eq!(number(&admin, kept).await, left, "after {seconds} s");
    }
}
