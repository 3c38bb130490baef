//! What processes measure: kept, merged, and bounded.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::{
    Store,
    measure::{Meter, UNANSWERED},
    slo::State,
};

use utxoiq_store_testkit::{FaultProxy, Mode};

use super::{lines, store};
use crate::support::TestDb;

fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// What all have measured of reading jobs, as a report says it: how many, and the worst.
async fn seen(store: &Store, now: DateTime<Utc>) -> (u64, State) {
    let criterion = store.slo().criterion("C1.5", now, None).await.unwrap();
    (criterion.sample_size.unwrap_or(0), criterion.state)
}

#[tokio::test]
async fn what_two_processes_measure_is_added_up_and_neither_overwrites_the_other() {
    let db = TestDb::new().await;
    let (one, other) = (store(&db, &[]), store(&db, &[]));
    for round in 0..3 {
        let now = noon() + TimeDelta::seconds(10 * round);
        for process in [&one, &other] {
            for _ in 0..50 {
                process.pool().meters().record(Meter::JobRead, 1_000);
            }
            process.slo().keep(now).await.unwrap();
            // A flush that is made again counts nothing twice.
            process.slo().keep(now).await.unwrap();
        }
    }
    let looking = store(&db, &[]);
    assert_eq!(
        seen(&looking, noon() + TimeDelta::minutes(1)).await,
        (300, State::Met)
    );
    // The slow one of many is seen by whoever looks.
    for _ in 0..50 {
        other.pool().meters().record(Meter::JobRead, UNANSWERED);
    }
    other
        .slo()
        .keep(noon() + TimeDelta::minutes(2))
        .await
        .unwrap();
    assert_eq!(
        seen(&looking, noon() + TimeDelta::minutes(2)).await,
        (350, State::Missed)
    );
}

#[tokio::test]
async fn a_process_that_is_killed_loses_what_it_measured_since_its_last_flush_and_no_more() {
    let db = TestDb::new().await;
    let killed = store(&db, &[]);
    killed.pool().meters().record(Meter::JobRead, 1_000);
    killed.slo().keep(noon()).await.unwrap();
    killed.pool().meters().record(Meter::JobRead, 1_000);
    drop(killed);
    let looking = store(&db, &[]);
    assert_eq!(
        seen(&looking, noon() + TimeDelta::seconds(20)).await,
        (1, State::Met)
    );
}

#[tokio::test]
async fn what_is_measured_while_the_database_is_away_is_written_when_it_is_back() {
    let db = TestDb::new().await;
    let store = store(&db, &[]);
    let admin = db.admin().await;
    admin
        .batch_execute("alter table slo_facts rename to away")
        .await
        .unwrap();
    for minute in 0..10 {
        store.pool().meters().record(Meter::JobRead, 1_000);
        let now = noon() + TimeDelta::minutes(minute);
        assert!(store.slo().keep(now).await.is_err());
    }
    admin
        .batch_execute("alter table away rename to slo_facts")
        .await
        .unwrap();
    store
        .slo()
        .keep(noon() + TimeDelta::minutes(10))
        .await
        .unwrap();
    assert_eq!(
        seen(&store, noon() + TimeDelta::minutes(10)).await,
        (10, State::Met)
    );
    let minutes = admin
        .query_one(
            "select count(*) from slo_facts where width_seconds = 60 and meter = 'job_read'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(minutes.get::<_, i64>(0), 10);
}

#[tokio::test]
async fn a_window_reaches_back_as_far_as_it_says_and_old_facts_go() {
    let db = TestDb::new().await;
    let store = store(&db, &[]);
    for hours in [0, 23, 25, 40 * 24] {
        store.pool().meters().record(Meter::JobRead, 1_000);
        store
            .slo()
            .keep(noon() - TimeDelta::hours(hours))
            .await
            .unwrap();
    }
    let count = async |hours: i64| {
        let window = Some(TimeDelta::hours(hours));
        let criterion = store.slo().criterion("C1.5", noon(), window).await.unwrap();
        criterion.sample_size.unwrap_or(0)
    };
    for (hours, is) in [(1, 1), (24, 2), (26, 3), (744, 3)] {
        assert_eq!(count(hours).await, is, "{hours}");
    }
    store.slo().prune(noon()).await.unwrap();
    let admin = db.admin().await;
    let sql = "select width_seconds, count(distinct bucket_at) from slo_facts where meter = 'job_read' group by 1 order by 1";
    let rows = admin.query(sql, &[]).await.unwrap();
    let left: Vec<(i32, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(left, [(60, 1), (3_600, 3)]);
}

#[tokio::test]
async fn a_report_asks_a_bounded_number_of_questions_and_is_shared() {
    let db = TestDb::new().await;
    let store = store(&db, &[]);
    let asked = || store.pool().snapshot(noon()).acquired_total;
    store.slo().report(noon(), None).await;
    let first = asked();
    assert!(first <= 40, "{first} connections were asked for");
    // Whoever asks within two seconds gets the same.
    let again = TimeDelta::milliseconds(1_999);
    let slo = store.slo();
    let asking = (0..20).map(|_| slo.report(noon() + again, None));
    let reports = futures_util::future::join_all(asking).await;
    assert_eq!(asked(), first);
    assert!(reports.iter().all(|report| report.judged_at == noon()));
    let later = store
        .slo()
        .report(noon() + TimeDelta::seconds(2), None)
        .await;
    assert_eq!(later.judged_at, noon() + TimeDelta::seconds(2));
    assert_eq!(asked(), first * 2);
}

#[tokio::test]
async fn since_when_a_criterion_is_in_its_state_is_kept() {
    let db = TestDb::new().await;
    let store = store(&db, &[]);
    let note = async |seconds: i64| {
        let report = store
            .slo()
            .report(noon() + TimeDelta::seconds(seconds), None)
            .await;
        store.slo().note(&report).await.unwrap()
    };
    assert_eq!(note(0).await, 40);
    assert_eq!(note(30).await, 0);
    let admin = db.admin().await;
    admin
        .batch_execute("update schema_migrations set up_checksum = 'x' where number = 1")
        .await
        .unwrap();
    let at = async |seconds: i64| {
        let now = noon() + TimeDelta::seconds(seconds);
        let criterion = store.slo().criterion("C5.1", now, None).await.unwrap();
        (criterion.state, criterion.since)
    };
    // Before anybody has noted it: since now.
    assert_eq!(
        at(60).await,
        (State::Missed, noon() + TimeDelta::seconds(60))
    );
    assert_eq!(note(63).await, 1);
    assert_eq!(
        at(90).await,
        (State::Missed, noon() + TimeDelta::seconds(63))
    );
    let changes = store.slo().changes("C5.1").await.unwrap();
    let states: Vec<State> = changes.iter().map(|one| one.state).collect();
    assert_eq!(states, [State::Missed, State::Met]);
    assert!(changes[0].summary.contains("another content"));
}

#[tokio::test]
async fn while_the_database_is_away_a_report_is_there_all_the_same_and_blames_nobody() {
    let db = TestDb::new().await;
    let mut url = url::Url::parse(&db.app_url()).unwrap();
    let proxy = FaultProxy::start_for_port(url.port().unwrap_or(5432)).await;
    url.set_port(Some(proxy.addr().port())).unwrap();
    let store = store(&db, &[("DATABASE_URL", url.as_str())]);
    proxy.set(Mode::Silent).await;
    let began = Instant::now();
    let report = store.slo().report(noon(), None).await;
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(report.counts.missed, 0, "{}", lines(&report));
    let unread = report.criteria.iter().find(|one| one.id == "C5.1").unwrap();
    assert!(
        unread
            .reason
            .as_ref()
            .unwrap()
            .contains("could not be asked")
    );
    proxy.set(Mode::Pass).await;
    let later = noon() + TimeDelta::minutes(1);
    let report = store.slo().report(later, None).await;
    assert!(
        report
            .criteria
            .iter()
            .any(|one| one.id == "C5.1" && one.state == State::Met)
    );
}
