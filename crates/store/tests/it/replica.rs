//! Reads on replicas: real hot standbys, stopped, killed, promoted and left behind on purpose.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    clock::SystemClock,
    config::Loader,
    db::{
        Pool,
        migrate::Migrator,
        replica::{Reading, ReplicaSnapshot},
        roles,
    },
    feedback::{Filter, Page},
};
use utxoiq_store_testkit::{PgCluster, PgOptions};

use crate::support::{PASSWORD, connect};

const DATABASE: &str = "postgres";

/// A cluster with roles and schema.
async fn primary() -> PgCluster {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let url = cluster.admin_url(DATABASE);
    roles::init(&url).await.unwrap();
    let admin = connect(&url).await;
    let set = format!("alter role {} password '{PASSWORD}'", roles::APP);
    admin.batch_execute(&set).await.unwrap();
    let migrator = Migrator::embedded().unwrap();
    migrator.up(&url, &SystemClock).await.unwrap();
    cluster
}

fn address(cluster: &PgCluster) -> String {
    cluster.url(roles::APP, PASSWORD, DATABASE)
}

/// A process that serves: its own pools, its own caches.
fn store(primary: &PgCluster, replicas: &[&PgCluster]) -> Store {
    let replicas: Vec<String> = replicas.iter().map(|one| address(one)).collect();
    let vars = [
        ("DATABASE_URL", address(primary)),
        ("DATABASE_READ_URLS", replicas.join(",")),
        // Many tests share two cores, and what is lost in time is no subject here.
        (
            "UTXOIQ_STORE_DATABASE__REPLICA_PATIENCE_MILLISECONDS",
            "5000".to_owned(),
        ),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value));
    Store::open(Loader::default().env(vars).unwrap().finish().unwrap()).unwrap()
}

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

async fn rate(store: &Store, insight: &str, user: &str) {
    let feedback = store.feedback();
    feedback.rate(insight, user, 4, None, noon()).await.unwrap();
}

/// How many entries a search finds.
async fn found(store: &Store, insight: &str) -> i64 {
    let filter = Filter {
        insight_id: Some(insight.to_owned()),
        ..Filter::default()
    };
    let found = store.feedback().search(&filter, &Page::first(1)).await;
    found.unwrap().total
}

/// How many a server has, asked without any of our ways.
async fn has(client: &Client, insight: &str) -> i64 {
    let sql = "select count(*) from insight_feedback where insight_id = $1";
    client.query_one(sql, &[&insight]).await.unwrap().get(0)
}

fn of(store: &Store) -> ReplicaSnapshot {
    store.reads().snapshot(noon()).remove(0)
}

/// Reads until the replica has answered one, which it does again some time after it rested.
async fn until_served(store: &Store) {
    let served = of(store).served_total;
    for _ in 0..300 {
        found(store, "until-served").await;
        if of(store).served_total > served {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the replica is not used again: {:?}", of(store));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_wrote_another_reads_at_once_from_a_replica() {
    const WRITERS: i64 = 8;
    const EACH: i64 = 25;
    let primary = primary().await;
    let standby = primary.standby(&[]).await;
    let (writing, reading) = (store(&primary, &[]), store(&primary, &[&standby]));
    until_served(&reading).await;
    let before = of(&reading).served_total;
    let rounds = (0..WRITERS).map(|writer| {
        let (writing, reading) = (writing.clone(), reading.clone());
        tokio::spawn(async move {
            let insight = format!("i-{writer}");
            for n in 1..=EACH {
                rate(&writing, &insight, &format!("u-{n}")).await;
                assert_eq!(found(&reading, &insight).await, n, "{insight}");
            }
        })
    });
    for round in rounds.collect::<Vec<_>>() {
        round.await.unwrap();
    }
    let after = of(&reading);
    assert_eq!(after.served_total - before, (WRITERS * EACH).unsigned_abs());
    assert_eq!((after.late_total, after.failed_total), (0, 0));
    assert!(
        after.in_use && after.name.ends_with("/postgres"),
        "{after:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_replica_is_behind_the_primary_answers() {
    let primary = primary().await;
    let standby = primary.standby(&[]).await;
    let reading = store(&primary, &[&standby]);
    until_served(&reading).await;
    let on_standby = connect(&standby.admin_url(DATABASE)).await;
    let pause = "select pg_wal_replay_pause()";
    on_standby.batch_execute(pause).await.unwrap();
    let admin = connect(&primary.admin_url(DATABASE)).await;
    let write = "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, created_at, updated_at)
                 values (gen_random_uuid(), 'i', 'u', 3, '2026-03-01', '2026-03-01', '2026-03-01')";
    admin.batch_execute(write).await.unwrap();
    assert_eq!(has(&on_standby, "i").await, 0, "it really is behind");
    for _ in 0..3 {
        assert_eq!(found(&reading, "i").await, 1);
    }
    let told = of(&reading);
    assert!(told.late_total > 0 && !told.in_use, "{told:?}");
    assert!(told.behind_bytes > 0, "{told:?}");
    let resume = "select pg_wal_replay_resume()";
    on_standby.batch_execute(resume).await.unwrap();
    until_served(&reading).await;
    assert_eq!(of(&reading).behind_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_fails_when_a_replica_is_killed_and_comes_back() {
    let primary = primary().await;
    let standby = primary.standby(&[]).await;
    let (writing, reading) = (store(&primary, &[]), store(&primary, &[&standby]));
    until_served(&reading).await;
    let rounds = (0..4).map(|writer| {
        let (writing, reading) = (writing.clone(), reading.clone());
        tokio::spawn(async move {
            let insight = format!("i-{writer}");
            let began = std::time::Instant::now();
            let mut n = 0;
            while began.elapsed() < Duration::from_secs(8) {
                n += 1;
                rate(&writing, &insight, &format!("u-{n}")).await;
                assert_eq!(found(&reading, &insight).await, n, "{insight}");
            }
        })
    });
    let rounds: Vec<_> = rounds.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    standby.kill9().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    standby.start_again().await;
    for round in rounds {
        round.await.unwrap();
    }
    assert!(of(&reading).failed_total > 0, "{:?}", of(&reading));
    until_served(&reading).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_replica_ends_is_made_again_on_the_primary() {
    let primary = primary().await;
    // It never lets a read hold up what it has to replay.
    let standby = primary
        .standby(&[("max_standby_streaming_delay", "0")])
        .await;
    let reading = store(&primary, &[&standby]);
    rate(&reading, "i", "u").await;
    until_served(&reading).await;
    let (calls, primary_url) = (AtomicU32::new(0), primary.admin_url(DATABASE));
    let read = |pool| -> Reading<'_, (i64, bool)> {
        let (calls, primary_url) = (&calls, &primary_url);
        Box::pin(async move {
            let connection = Pool::get(pool).await?;
            let is_first = calls.fetch_add(1, SeqCst) == 0;
            connection
                .batch_execute(
                    "begin isolation level repeatable read; select from insight_feedback",
                )
                .await?;
            if is_first {
                let admin = connect(primary_url).await;
                let lock = "begin; lock table insight_feedback in access exclusive mode; commit";
                admin.batch_execute(lock).await.unwrap();
            }
            let sql =
                "select count(*) filter (where pg_sleep(0.2) is not null), pg_is_in_recovery()
                       from generate_series(1, 5)";
            let row = connection.query_one(sql, &[]).await?;
            let sql = "select count(*) from insight_feedback";
            let count = connection.query_one(sql, &[]).await?;
            connection.batch_execute("commit").await?;
            Ok((count.get(0), row.get(1)))
        })
    };
    let (count, by_standby) = reading.reads().run(read).await.unwrap();
    assert_eq!((count, by_standby, calls.load(SeqCst)), (1, false, 2));
    assert_eq!(of(&reading).failed_total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_and_another_cluster_are_not_used() {
    let primary = primary().await;
    let standby = primary.standby(&[]).await;
    let reading = store(&primary, &[&standby]);
    until_served(&reading).await;
    let promoted = connect(&standby.admin_url(DATABASE)).await;
    promoted.batch_execute("select pg_promote()").await.unwrap();
    let sql = "delete from insight_feedback; insert into insight_feedback
               (id, insight_id, user_id, rating, rated_at, created_at, updated_at)
               values (gen_random_uuid(), 'i', 'stray', 3, '2026-03-01', '2026-03-01', '2026-03-01')";
    promoted.batch_execute(sql).await.unwrap();
    let served = of(&reading).served_total;
    assert_eq!(found(&reading, "i").await, 0);
    rate(&reading, "i", "u").await;
    rate(&reading, "i", "v").await;
    assert_eq!(found(&reading, "i").await, 2);
    assert_eq!(of(&reading).served_total, served);

    let other = self::primary().await;
    let standby_of_other = other.standby(&[]).await;
    let reading = store(&primary, &[&standby_of_other]);
    assert_eq!(found(&reading, "i").await, 2);
    let told = of(&reading);
    assert_eq!((told.served_total, told.failed_total), (0, 1));
}

/// A failover that leaves a replica behind: it has commits that the new primary never got, at places beyond the new primary's.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_a_history_that_was_left_is_not_used() {
    let old = primary().await;
    let (new, left) = (old.standby(&[]).await, old.standby(&[]).await);
    rate(&store(&old, &[]), "i", "both").await;
    let on_left = connect(&left.admin_url(DATABASE)).await;
    new.stop().await;
    for n in 0..50 {
        rate(&store(&old, &[]), "i", &format!("lost-{n}")).await;
    }
    for _ in 0..300 {
        if has(&on_left, "i").await == 51 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(has(&on_left, "i").await, 51);
    old.kill9().await;
    new.start_again().await;
    let on_new = connect(&new.admin_url(DATABASE)).await;
    on_new.batch_execute("select pg_promote()").await.unwrap();
    let place = "select (coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0')::bigint";
    let ahead: i64 = on_left.query_one(place, &[]).await.unwrap().get(0);
    let place = "select (pg_current_wal_flush_lsn() - '0/0')::bigint";
    let new_place: i64 = on_new.query_one(place, &[]).await.unwrap().get(0);
    assert!(ahead > new_place, "the one that was left is ahead");

    let reading = store(&new, &[&left]);
    for _ in 0..3 {
        assert_eq!(found(&reading, "i").await, 1, "and knows what never was");
    }
    assert_eq!(of(&reading).served_total, 0);
}
