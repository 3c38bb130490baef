//! Others go on while a day is archived that somebody reads for long.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use chrono::{NaiveDate, TimeDelta};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    cold::Dataset,
    db::roles,
    metrics::{Accept, Batch, Interval, NewSample, SeriesName, micros, read::Selector},
    retention::Report,
};
use utxoiq_store_testkit::Request;

use super::{ACTOR, House, after, day, start};
use crate::metrics::{first, render};

/// What no statement of others may wait for longer.
const MOST: Duration = Duration::from_millis(500);

/// How many days are there; the first one is due.
const DAYS: u64 = 92;

/// The longest time that each kind of statement took, and how many there were.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<BTreeMap<&'static str, (Duration, u32)>>>);

impl Times {
    async fn of<T>(&self, what: &'static str, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.await;
        let took = began.elapsed();
        let mut times = self.0.lock().unwrap();
        let time = times.entry(what).or_default();
        *time = (time.0.max(took), time.1 + 1);
        done
    }

    fn assert_bounded(&self, when: &str) {
        let times = self.0.lock().unwrap();
        assert!(times.len() >= 7, "{when}: {times:?}");
        for (what, (longest, count)) in times.iter() {
            assert!(*count > 1, "{when}: {what} was done {count} times");
            assert!(*longest < MOST, "{when}: {what} waited for {longest:?}");
        }
    }
}

fn name(host: usize) -> SeriesName {
    SeriesName {
        service_name: "api".into(),
        metric_type: "latency".into(),
        unit: "ms".into(),
        labels: BTreeMap::from([("host".to_owned(), host.to_string())]),
    }
}

async fn record(store: &Store, host: usize, of: NaiveDate, second: i64) {
    let mut batch = Batch::default();
    let series = batch.series(name(host));
    batch.push(NewSample {
        series,
        at: Some(micros(start(of) + TimeDelta::seconds(second))),
        value: 1.0,
        metadata: None,
    });
    let now = store.now();
    let metrics = store.metrics();
    let recorded = metrics.record(batch, Accept::Whole, None, now).await;
    recorded.unwrap();
}

/// A client: it writes into today and into other days, and reads other days in each way there is, until it is told to stop.
async fn client(
    number: usize,
    store: Store,
    psql: Client,
    today: NaiveDate,
    times: Times,
    stop: Arc<AtomicBool>,
) {
    let mut turn = 0;
    while !stop.load(SeqCst) {
        turn += 1;
        let back = 1 + (turn * 7 + number as u64 * 11) % 80;
        let other = today - TimeDelta::days(i64::try_from(back).unwrap());
        let second = i64::try_from(number as u64 * 5_000 + turn % 5_000).unwrap();
        let selector = Selector {
            service_name: Some("api".into()),
            metric_type: Some("latency".into()),
            from: micros(start(other)),
            to: micros(start(after(other, 1))),
            ..Selector::default()
        };
        let metrics = store.metrics();
        times
            .of("intake", record(&store, number, today, second % 7_000))
            .await;
        times
            .of("late intake", record(&store, number, other, second))
            .await;
        let sql = format!(
            "select count(*) from system_metrics where sampled_at >= '{other} 00:00Z' and sampled_at < '{} 00:00Z'",
            after(other, 1)
        );
        times.of("select", psql.query_one(&sql, &[])).await.unwrap();
        let page = metrics.newest(&selector, first(50), None, &render);
        times.of("page", page).await.unwrap();
        let hours = metrics.aggregate(&selector, Interval::Hour, None, store.now());
        times.of("aggregate", hours).await.unwrap();
        let stream = async {
            let mut read = metrics.samples(&selector, None).await.unwrap();
            while read.next().await.unwrap().is_some() {}
        };
        times.of("stream", stream).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes days that are to come, and vacuums.
async fn caretaker(
    psql: Client,
    admin: Client,
    today: NaiveDate,
    times: Times,
    stop: Arc<AtomicBool>,
) {
    let mut turn = 0;
    while !stop.load(SeqCst) {
        turn += 1;
        let sql = format!(
            "select metric_make_day('{}', '{today}')",
            after(today, 20 + turn)
        );
        times
            .of("make_day", psql.query_one(&sql, &[]))
            .await
            .unwrap();
        let other = after(today, 0) - TimeDelta::days(1 + i64::try_from(turn % 80).unwrap());
        let sql = format!("vacuum system_metrics_{}", other.format("%Y%m%d"));
        times.of("vacuum", admin.batch_execute(&sql)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A run, with everybody at work while it goes on.
async fn run_among_others(house: &House, today: NaiveDate, times: &Times) -> Report {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let psql = house.db.client(roles::APP).await;
        let (store, times, stop) = (house.store.clone(), times.clone(), Arc::clone(&stop));
        clients.spawn(client(number, store, psql, today, times, stop));
    }
    let (psql, admin) = (house.db.client(roles::APP).await, house.db.admin().await);
    clients.spawn(caretaker(
        psql,
        admin,
        today,
        times.clone(),
        Arc::clone(&stop),
    ));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let retention = house.store.retention().unwrap();
    let report = retention.run(house.clock_now(), ACTOR).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    report
}

async fn waits_for_nothing(house: &House) {
    let sql = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(house.number(sql).await, 0);
}

const READERS: [(&str, &str); 3] = [
    (
        "a reader of the day",
        "begin isolation level repeatable read; select count(*) from system_metrics where sampled_at >= '2026-01-01 00:00Z' and sampled_at < '2026-01-02 00:00Z'",
    ),
    (
        "a reader of its partition",
        "begin isolation level repeatable read; select count(*) from system_metrics_20260101",
    ),
    ("a dump", "DUMP"),
];

/// Holds every table, as a dump does.
async fn dump(house: &House) -> String {
    let sql = "select string_agg(format('lock table %I in access share mode', relname), '; ') from pg_class
               where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace";
    let locks: String = house.admin.query_one(sql, &[]).await.unwrap().get(0);
    format!("begin isolation level repeatable read; {locks}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_while_a_day_is_archived_that_somebody_reads_for_long() {
    let few = [("UTXOIQ_STORE_RETENTION__LOCK_ATTEMPTS", "5")];
    let (house, faulty) = House::over_faulty("2026-01-01", Duration::from_secs(10), &few).await;
    let first = day("2026-01-01");
    for days in 0..DAYS {
        let times: Vec<_> = (0..5)
            .map(|n| start(after(first, days)) + TimeDelta::hours(n))
            .collect();
        house.samples("a", &times).await;
    }
    let today = after(first, DAYS - 1);
    house.clock.set(start(today) + TimeDelta::hours(2));
    house.roll_up_to(today).await;
    let mut written = 0;
    for (who, sql) in READERS {
        let sql = if sql == "DUMP" {
            dump(&house).await
        } else {
            sql.to_owned()
        };
        let reader = house.db.admin().await;
        reader.batch_execute(&sql).await.unwrap();
        let times = Times::default();
        let report = run_among_others(&house, today, &times).await;
        times.assert_bounded(who);
        let failures: Vec<_> = report
            .failures
            .iter()
            .map(|failure| (failure.code, failure.day))
            .collect();
        assert_eq!(
            failures,
            [("day_is_in_use", Some(first))],
            "{who}: {report:?}"
        );
        let proved = "select count(*) from archives where state = 'proved' and day = '2026-01-01'";
        assert_eq!(house.number(proved).await, 1, "{who}");
        waits_for_nothing(&house).await;
        // The object and its manifest were written once, whoever read afterwards.
        written = if written == 0 {
            faulty.seen(Request::Put)
        } else {
            written
        };
        assert_eq!((faulty.seen(Request::Put), written), (2, 2), "{who}");
        reader.batch_execute("commit").await.unwrap();
    }
    let times = Times::default();
    let report = run_among_others(&house, today, &times).await;
    times.assert_bounded("nobody reads");
    assert!(report.is_success(), "{report:?}");
    assert_eq!(report.archived_rows(Dataset::Metrics), 5);
    assert_eq!(faulty.seen(Request::Put), written);
    assert_eq!(house.objects(".parquet").len(), 1);
    house.assert_chain().await;
}

/// Writers of the very day: they hold its partition first and its row then, as the detachment does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_writers_of_the_day_and_its_detachment_never_wait_for_each_other() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house
        .samples("a", &[start(first), start(first) + TimeDelta::hours(3)])
        .await;
    let today = after(first, 91);
    house.clock.set(start(today) + TimeDelta::hours(2));
    house.roll_up_to(today).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..6 {
        let psql = house.db.client(roles::APP).await;
        let stop = Arc::clone(&stop);
        writers.spawn(async move {
            let (mut written, mut longest) = (0, Duration::ZERO);
            while !stop.load(SeqCst) {
                let second = number * 10_000 + written;
                let table = ["system_metrics", "system_metrics_20260101"][usize::try_from(written % 2).unwrap()];
                let sql = format!(
                    "begin; insert into {table} (series_id, sampled_at, value)
                     select min(id), '2026-01-01 00:00:00Z'::timestamptz + interval '1 second' * {second} + interval '1 ms', 1 from metric_series"
                );
                let began = Instant::now();
                let inserted = psql.batch_execute(&sql).await;
                longest = longest.max(began.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
                if let Err(error) = inserted {
                    let code = error.code().unwrap().code().to_owned();
                    psql.batch_execute("rollback").await.unwrap();
                    // Archived; or there is no such partition any more.
                    assert!(["UT001", "23514", "42P01"].contains(&code.as_str()), "{error:?}");
                    break;
                }
                psql.batch_execute("commit").await.unwrap();
                written += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (written, longest)
        });
    }
    let retention = house.store.retention().unwrap();
    for _ in 0..4 {
        let report = retention.run(house.clock_now(), ACTOR).await.unwrap();
        for failure in &report.failures {
            let known = ["day_is_in_use", "archive_changed", "rollups_not_verified"];
            assert!(known.contains(&failure.code), "{failure:?}");
        }
    }
    stop.store(true, SeqCst);
    let mut written = 2;
    while let Some(ended) = writers.join_next().await {
        let (count, longest) = ended.unwrap();
        assert!(longest < MOST, "{longest:?}");
        written += count;
    }
    house.roll_up_to(today).await;
    let report = retention.run(house.clock_now(), ACTOR).await.unwrap();
    assert!(report.is_success(), "{report:?}");
    let sql = "select sum(rows)::bigint from archives where state = 'archived'";
    assert_eq!(house.number(sql).await, written);
    assert_eq!(house.number("select count(*) from system_metrics").await, 0);
    house.assert_chain().await;
}
