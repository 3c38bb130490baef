//! The pool (C6.1–C6.5), through a proxy that breaks on demand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use utxoiq_store::{
    Kind, Store,
    clock::{Clock as _, SystemClock},
    config::Config,
    db::{Pool, pool::ConnectCause},
};
use utxoiq_store_testkit::{
    postgres::{PgCluster, PgOptions},
    proxy::{Ending, FaultProxy, Mode},
    urls,
};

use crate::support::TestDb;

/// The test's database behind a proxy.
async fn proxied(db: &TestDb) -> (FaultProxy, String) {
    let mut url = url::Url::parse(&db.app_url()).unwrap();
    let proxy = FaultProxy::start_for_port(url.port().unwrap()).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.addr().port())).unwrap();
    (proxy, url.into())
}

/// The settings with these in place of the defaults, and patience where a test is not about time.
fn config(url: &str, vars: &[(&str, &str)]) -> Config {
    let patient = [
        ("CONNECT_TIMEOUT_MILLISECONDS", "10000"),
        ("ACQUIRE_TIMEOUT_MILLISECONDS", "60000"),
    ];
    let vars: Vec<_> = patient.iter().chain(vars).copied().collect();
    config_of(url, &vars)
}

fn config_of(url: &str, vars: &[(&str, &str)]) -> Config {
    let mut all = vec![("DATABASE_URL".to_owned(), url.to_owned())];
    all.extend(
        vars.iter()
            .map(|(key, value)| (format!("UTXOIQ_STORE_DATABASE__{key}"), (*value).to_owned())),
    );
    utxoiq_store::config::Loader::default()
        .env(all)
        .unwrap()
        .finish()
        .unwrap()
}

fn open(url: &str, vars: &[(&str, &str)]) -> Pool {
    Pool::open(&config(url, vars).database).unwrap()
}

fn size(pool: &Pool) -> usize {
    pool.snapshot(SystemClock.now()).size
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "not within 20 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn it_holds_five_when_idle_and_never_more_than_twenty_under_load() {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    let pool = open(&url, &[]);
    until("five idle connections", || size(&pool) == 5).await;
    assert_eq!(proxy.open(), 5);
    let most = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..60)
        .map(|_| {
            let (pool, most) = (pool.clone(), Arc::clone(&most));
            tokio::spawn(async move {
                for _ in 0..10 {
                    let client = pool.get().await.unwrap();
                    client
                        .query_one("select pg_sleep(0.005)", &[])
                        .await
                        .unwrap();
                    most.fetch_max(size(&pool), Relaxed);
                }
            })
        })
        .collect();
    for task in load {
        task.await.unwrap();
    }
    assert_eq!(most.load(Relaxed), 20);
    let snapshot = pool.snapshot(SystemClock.now());
    assert_eq!(
        (snapshot.active, snapshot.waiting, snapshot.idle),
        (0, 0, snapshot.size)
    );
    assert!(proxy.attempts().len() <= 20, "connections are reused");
    assert!(snapshot.acquired_total >= 600 && snapshot.wait.count() == snapshot.acquired_total);
}

/// With an idle timeout of one second in place of five minutes: it is the same setting.
#[tokio::test]
async fn idle_connections_above_the_minimum_are_closed_when_their_time_is_up_even_while_requests_trickle()
 {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    let pool = open(&url, &[("IDLE_TIMEOUT_SECONDS", "1")]);
    let started = Instant::now();
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(pool.get().await.unwrap());
    }
    drop(held);
    assert_eq!(size(&pool), 20);
    // 20 requests a second: a first-in-first-out queue would touch all 20 connections, and close none.
    while size(&pool) > 5 && started.elapsed() < Duration::from_secs(10) {
        drop(pool.get().await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    for _ in 0..20 {
        drop(pool.get().await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(size(&pool), 5);
    }
    until("closed connections are gone", || proxy.open() == 5).await;
    assert_eq!(pool.snapshot(SystemClock.now()).closed_idle_total, 15);
}

#[tokio::test]
async fn an_old_connection_is_replaced() {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    let pool = open(
        &url,
        &[("IDLE_TIMEOUT_SECONDS", "1"), ("MAX_LIFETIME_SECONDS", "1")],
    );
    until("all five were replaced", || proxy.attempts().len() >= 10).await;
    until("five again", || size(&pool) == 5).await;
}

#[tokio::test]
async fn an_existing_connection_is_reused_without_a_round_trip() {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    let pool = open(&url, &[]);
    until("five idle connections", || {
        size(&pool) == 5 && pool.snapshot(SystemClock.now()).idle == 5
    })
    .await;
    let before = proxy.bytes_to_upstream();
    for _ in 0..100 {
        drop(pool.get().await.unwrap());
    }
    assert_eq!(proxy.bytes_to_upstream(), before);
    let mut waits = Vec::new();
    for _ in 0..101 {
        let started = Instant::now();
        drop(pool.get().await.unwrap());
        waits.push(started.elapsed());
    }
    waits.sort_unstable();
    // C6.2 itself: the bound is the guarantee. The middle one, since the machine may stop us at any of them.
    assert!(waits[50] < Duration::from_millis(10), "{waits:?}");
}

#[tokio::test]
async fn connecting_is_retried_three_times_with_growing_gaps_and_then_fails_with_its_cause() {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    proxy.set(Mode::DropNew).await;
    let pool = open(&url, &[("POOL_MIN", "0"), ("POOL_MAX", "1")]);
    let error = pool.get().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unavailable, "database_unavailable")
    );
    let attempts = proxy.attempts();
    assert_eq!(attempts.len(), 4, "one attempt and three retries");
    let gaps: Vec<Duration> = attempts
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    // Each pause at least doubles; a busy machine can only make them longer.
    for (gap, least) in gaps.iter().zip([100, 200, 400]) {
        assert!(*gap >= Duration::from_millis(least), "{gaps:?}");
    }
    let snapshot = pool.snapshot(SystemClock.now());
    assert_eq!(
        (
            snapshot.connect_retries_total,
            snapshot.size,
            snapshot.waiting
        ),
        (3, 0, 0)
    );
    // The next one succeeds at once when the server is back.
    proxy.set(Mode::Pass).await;
    drop(pool.get().await.unwrap());
}

#[tokio::test]
async fn each_cause_of_a_failed_connection_is_told_apart_and_hopeless_ones_are_not_retried() {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    let quick = [
        ("POOL_MIN", "0"),
        ("CONNECT_TIMEOUT_MILLISECONDS", "200"),
        ("CONNECT_BACKOFF_MILLISECONDS", "10"),
    ];
    let failed = async |url: &str, cause: ConnectCause, attempts: u64| {
        let pool = open(url, &quick);
        let error = pool.get().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        let failures = pool.snapshot(SystemClock.now()).connect_failures;
        let seen: Vec<_> = failures
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(seen, [(cause, attempts)], "{error:?}");
        let text = format!("{error} {}", error.report());
        assert!(
            !text.contains("only-for-tests") && !text.contains("wr0ng"),
            "{text}"
        );
    };
    proxy.set(Mode::Refuse).await;
    failed(&url, ConnectCause::Refused, 4).await;
    proxy.set(Mode::Silent).await;
    failed(&url, ConnectCause::Timeout, 4).await;
    proxy.set(Mode::Pass).await;
    failed(
        &url.replace("only-for-tests", "wr0ng"),
        ConnectCause::Authentication,
        1,
    )
    .await;
    failed(
        &url.replace(db.name(), "no_such_database"),
        ConnectCause::NoDatabase,
        1,
    )
    .await;
}

#[tokio::test]
async fn a_server_without_connections_left_is_told_apart() {
    let cluster = PgCluster::start(PgOptions {
        max_connections: 10,
        ..PgOptions::default()
    })
    .await;
    let pool = open(
        &cluster.admin_url("postgres"),
        &[("POOL_MIN", "0"), ("CONNECT_BACKOFF_MILLISECONDS", "10")],
    );
    let mut held = Vec::new();
    let error = loop {
        match pool.get().await {
            Ok(client) => held.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(held.len(), 10);
    assert!(error.message().contains("max_connections"), "{error}");
    held.pop();
    drop(pool.get().await.unwrap());
}

#[tokio::test]
async fn waiting_ends_in_time_with_its_own_error() {
    let db = TestDb::new().await;
    let pool = open(
        &db.app_url(),
        &[
            ("POOL_MIN", "1"),
            ("POOL_MAX", "1"),
            ("CONNECT_RETRIES", "0"),
            ("CONNECT_TIMEOUT_MILLISECONDS", "1500"),
            ("ACQUIRE_TIMEOUT_MILLISECONDS", "1500"),
        ],
    );
    let held = pool.get().await.unwrap();
    let error = pool.get().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unavailable, "pool_exhausted")
    );
    assert_eq!(pool.snapshot(SystemClock.now()).timed_out_total, 1);
    drop(held);
    drop(pool.get().await.unwrap());
}

/// Requests are cancelled at random moments: while they wait, connect, or have their connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_requests_leak_nothing() {
    let seed = urls::seed();
    let db = TestDb::new().await;
    let pool = open(&db.app_url(), &[("POOL_MIN", "2"), ("POOL_MAX", "8")]);
    let rounds = usize::try_from(urls::scale(20_000, 100_000)).unwrap() / 60;
    let tasks: Vec<_> = (0..60)
        .map(|task| {
            let pool = pool.clone();
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(task));
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let patience = Duration::from_micros(random.random_range(0..3_000));
                    let held = Duration::from_micros(random.random_range(0..500));
                    let use_it = async {
                        let mut client = pool.get().await.unwrap();
                        if random.random_bool(0.2) {
                            // Closed from the other side at times, so that new ones are made all along.
                            let _ = client
                                .query("select pg_terminate_backend(pg_backend_pid())", &[])
                                .await;
                        } else {
                            let tx = client.transaction().await?;
                            tx.query_one("select 1", &[]).await?;
                            tokio::time::sleep(held).await;
                            tx.commit().await?;
                        }
                        Ok::<(), tokio_postgres::Error>(())
                    };
                    let _ = tokio::time::timeout(patience, use_it).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let snapshot = pool.snapshot(SystemClock.now());
    assert_eq!((snapshot.active, snapshot.waiting), (0, 0), "seed {seed}");
    // Every permit is there, and every connection works, with no transaction left open.
    let mut held = Vec::new();
    for _ in 0..8 {
        let client = pool.get().await.unwrap();
        client.query_one("select 1", &[]).await.unwrap();
        held.push(client);
    }
    assert_eq!(size(&pool), 8);
    let admin = db.admin().await;
    let left = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'";
    let left: i64 = admin.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "transactions were left open, seed {seed}");
    drop(held);
    let count = "select count(*) from pg_stat_activity where datname = current_database() and usename = 'utxoiq_app'";
    let started = Instant::now();
    loop {
        let open: i64 = admin.query_one(count, &[]).await.unwrap().get(0);
        if open == 8 {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{open} connections on the server, 8 in the pool"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_under_load_is_survived() {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let store = Store::open(config(&cluster.admin_url("postgres"), &[])).unwrap();
    store
        .pool()
        .get()
        .await
        .unwrap()
        .batch_execute("create table counted (n bigint not null)")
        .await
        .unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let (store, stop, acknowledged) =
                (store.clone(), Arc::clone(&stop), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    let write = async {
                        let client = store.pool().get().await?;
                        client
                            .execute("insert into counted values (1)", &[])
                            .await?;
                        Ok::<(), utxoiq_store::Error>(())
                    };
                    match write.await {
                        Ok(()) => {
                            acknowledged.fetch_add(1, Relaxed);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
            })
        })
        .collect();
    for kill in [false, true, false] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if kill {
            cluster.kill9().await;
            cluster.start_again().await;
        } else {
            cluster.restart().await;
        }
        let before = acknowledged.load(Relaxed);
        until("writes go on after the restart", || {
            acknowledged.load(Relaxed) > before + 100
        })
        .await;
    }
    stop.store(true, Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let client = store.pool().get().await.unwrap();
    let counted: i64 = client
        .query_one("select count(*) from counted", &[])
        .await
        .unwrap()
        .get(0);
    // Acknowledged is committed, and nothing was sent twice: at most one write of each writer and restart is unknown.
    let acknowledged = acknowledged.load(Relaxed);
    let counted = usize::try_from(counted).unwrap();
    assert!(
        (acknowledged..=acknowledged + 48).contains(&counted),
        "{counted} rows, {acknowledged} acknowledged"
    );
}

#[tokio::test]
async fn a_connection_that_was_cut_is_skipped() {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    let pool = open(&url, &[("POOL_MIN", "1")]);
    let client = pool.get().await.unwrap();
    client.query_one("select 1", &[]).await.unwrap();
    drop(client);
    proxy.cut(Ending::Reset).await;
    until("the pool noticed", || proxy.open() == 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let client = pool.get().await.unwrap();
    client.query_one("select 1", &[]).await.unwrap();
}

/// With the settings as they come: a server that accepts and never answers gets every attempt, and its cause is told.
#[tokio::test]
async fn a_server_that_never_answers_is_told_apart_with_the_default_settings() {
    let db = TestDb::new().await;
    let (proxy, url) = proxied(&db).await;
    proxy.set(Mode::Silent).await;
    let pool = Pool::open(&config_of(&url, &[("POOL_MIN", "0")]).database).unwrap();
    let error = pool.get().await.unwrap_err();
    assert_eq!(error.code(), "database_unavailable", "{error:?}");
    assert!(
        error.message().contains("did not answer in time"),
        "{error}"
    );
    assert_eq!(pool.snapshot(SystemClock.now()).connect_retries_total, 3);
}

/// Without the first, `limit $1` is planned anew at each execution; without the second, the plan kept in its place is
/// compiled for a hundred milliseconds.
#[tokio::test]
async fn its_sessions_keep_their_plans_and_compile_none() {
    let db = TestDb::new().await;
    let pool = open(&db.app_url(), &[]);
    let client = pool.get().await.unwrap();
    for (setting, value) in [
        ("plan_cache_mode", "force_generic_plan"),
        ("jit", "off"),
        ("timezone", "UTC"),
    ] {
        let row = client
            .query_one("select current_setting($1)", &[&setting])
            .await
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }
}
