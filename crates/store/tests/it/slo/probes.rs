//! Probes: what they try, and what they leave.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::{
    Store,
    backup::Scratch,
    config::Secret,
    db::roles,
    slo::State,
    worker::criteria::{self, Sabotage},
};

use utxoiq_store_testkit::{PgCluster, PgOptions};

use super::{lines, store};
use crate::support::{PASSWORD, TestDb, connect};

fn probing(db: &TestDb) -> Store {
    store(db, &[("UTXOIQ_STORE_DATABASE__DRILL_URL", &db.drill_url())])
}

/// The scratch databases of this history's probes that are there.
async fn scratch_databases(db: &TestDb) -> Vec<String> {
    let sql = "select datname::text from pg_database
               where datname in (select 'utxoiq_canary_' || replace(id::text, '-', '') from slo_probes)";
    let rows = db.admin().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// How many rows each table of the served database has, but for those of the criteria themselves.
async fn rows(db: &TestDb) -> BTreeMap<String, i64> {
    let admin = db.admin().await;
    let sql = "select relname::text from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace
               and relname not like 'slo%'";
    let mut rows = BTreeMap::new();
    for table in admin.query(sql, &[]).await.unwrap() {
        let table: String = table.get(0);
        let count = admin
            .query_one(&format!("select count(*) from {table}"), &[])
            .await
            .unwrap();
        rows.insert(table, count.get(0));
    }
    rows
}

#[tokio::test]
async fn a_probe_of_a_sound_product_finds_nothing_wrong_and_leaves_nothing() {
    let db = TestDb::new().await;
    let store = probing(&db);
    let before = rows(&db).await;
    let probe = criteria::probe(&store, "test", store.now()).await.unwrap();
    assert_eq!(
        (probe.error.as_deref(), probe.outcome.as_deref()),
        (None, Some("ok")),
        "{:?}",
        probe.steps
    );
    let tried: Vec<&str> = probe
        .steps
        .iter()
        .map(|step| step.criterion.as_str())
        .collect();
    for id in [
        "C1.1", "C1.3", "C1.4", "C2.2", "C2.3", "C2.5", "C3.1", "C3.4", "C4.5", "C5.1", "C5.2",
        "C5.3", "C5.4", "C5.5", "C6.4",
    ] {
        assert!(tried.contains(&id), "{id}");
    }
    assert_eq!(scratch_databases(&db).await, [""; 0]);
    assert_eq!(rows(&db).await, before);
    let report = store.slo().report(store.now(), None).await;
    assert_eq!(report.counts.missed, 0, "{}", lines(&report));
}

#[tokio::test]
async fn without_a_place_to_try_it_is_said_what_to_set() {
    let db = TestDb::new().await;
    let store = store(&db, &[]);
    let probe = criteria::probe(&store, "test", store.now()).await.unwrap();
    // Connecting needs no database.
    let tried: Vec<&str> = probe
        .steps
        .iter()
        .map(|step| step.criterion.as_str())
        .collect();
    assert_eq!(tried, ["C6.4"]);
    let report = store.slo().report(store.now(), None).await;
    for one in &report.criteria {
        if ["C1.1", "C2.5", "C3.4", "C5.4"].contains(&one.id) {
            assert_eq!(one.state, State::Unknown);
            assert!(
                one.reason.as_ref().unwrap().contains("database.drill_url"),
                "{:?}",
                one.reason
            );
        }
    }
}

#[tokio::test]
async fn a_probe_that_is_cancelled_leaves_no_database() {
    let db = TestDb::new().await;
    let store = probing(&db);
    let sabotage = Sabotage {
        sql: Some("select pg_sleep(30)".to_owned()),
        folder: None,
    };
    let probing = criteria::probe_with(&store, "test", store.now(), sabotage);
    let cancelled = tokio::time::timeout(Duration::from_mins(1), async {
        tokio::select! {
            _ = probing => panic!("it was not to end"),
            () = until_migrated(&db) => {}
        }
    });
    Box::pin(cancelled).await.unwrap();
    assert_eq!(scratch_databases(&db).await, [""; 0]);
    // It is given up when its lease is over, and not before.
    let now = store.now();
    let error = criteria::probe(&store, "test", now).await.unwrap_err();
    assert_eq!(error.code(), "probe_running");
    let later = now + TimeDelta::minutes(5);
    assert_eq!(
        criteria::probe(&store, "test", later)
            .await
            .unwrap()
            .outcome
            .as_deref(),
        Some("ok")
    );
}

/// Returns when the scratch database is being spoilt. It is not connected to for that: whoever is in it keeps it from being dropped.
async fn until_migrated(db: &TestDb) {
    let admin = db.admin().await;
    let sql = "select from pg_stat_activity where datname = $1 and query like '%pg_sleep%'";
    loop {
        for name in scratch_databases(db).await {
            if !admin.query(sql, &[&name]).await.unwrap().is_empty() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_a_killed_probe_left_goes_with_the_next_and_what_others_made_stays() {
    let db = TestDb::new().await;
    let store = probing(&db);
    // As a process that was killed leaves it: a row that is not ended, and a database.
    let (killed, foreign) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let long_ago: DateTime<Utc> = store.now() - TimeDelta::hours(1);
    let admin = db.admin().await;
    admin
        .execute(
            "insert into slo_probes (id, started_at, started_by, lease_expires_at) values ($1, $2, 'test', $2)",
            &[&killed, &long_ago],
        )
        .await
        .unwrap();
    let server = connect(&db.drill_url()).await;
    let name = |id: uuid::Uuid| format!("utxoiq_canary_{}", id.simple());
    for id in [killed, foreign] {
        server
            .batch_execute(&format!("create database {}", name(id)))
            .await
            .unwrap();
    }
    criteria::probe(&store, "test", store.now()).await.unwrap();
    let left = server
        .query(
            "select datname::text from pg_database where datname = any ($1)",
            &[&vec![name(killed), name(foreign)]],
        )
        .await
        .unwrap();
    let left: Vec<String> = left.iter().map(|row| row.get(0)).collect();
    server
        .batch_execute(&format!("drop database {}", name(foreign)))
        .await
        .unwrap();
    assert_eq!(left, [name(foreign)]);
    let outcomes = store.slo().probes(10).await.unwrap();
    assert_eq!(outcomes[1].outcome.as_deref(), Some("lost"));
}

#[tokio::test]
async fn a_scratch_database_that_the_server_is_vacuuming_is_dropped_all_the_same() {
    let options = PgOptions {
        settings: [
            ("autovacuum_naptime", "1s"),
            ("autovacuum_vacuum_cost_delay", "100ms"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..PgOptions::default()
    };
    let cluster = PgCluster::start(options).await;
    roles::init(&cluster.admin_url("postgres")).await.unwrap();
    let admin = connect(&cluster.admin_url("postgres")).await;
    admin
        .batch_execute(&format!(
            "alter role utxoiq_drill password '{PASSWORD}'; grant connect on database postgres to utxoiq_drill"
        ))
        .await
        .unwrap();
    let mut url = url::Url::parse(&cluster.admin_url("postgres")).unwrap();
    url.set_username(roles::DRILL).unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    let drill_url = Secret::new(url.as_str());
    let mut scratch = Scratch::beside(&drill_url, "utxoiq_canary_", uuid::Uuid::new_v4()).unwrap();
    scratch.create().await.unwrap();
    let name = scratch.name().to_owned();
    let inside = connect(&crate::support::with_database(url.as_str(), &name)).await;
    inside
        .batch_execute(
            "create table public.large (n integer) with (autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 10);
             insert into public.large select generate_series(1, 100000); delete from public.large where n % 2 = 0",
        )
        .await
        .unwrap();
    drop(inside);
    let vacuuming =
        "select from pg_stat_activity where datname = $1 and backend_type = 'autovacuum worker'";
    let mut tries = 0;
    while admin.query(vacuuming, &[&name]).await.unwrap().is_empty() {
        tries += 1;
        assert!(tries < 1_200, "it is never vacuumed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scratch.remove().await.unwrap();
    let there = admin
        .query("select from pg_database where datname = $1", &[&name])
        .await
        .unwrap();
    assert!(there.is_empty());
}
