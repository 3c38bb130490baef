//! A cluster is killed and comes back with what was committed.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};
use utxoiq_store_testkit::{PgCluster, PgOptions};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn what_was_committed_survives_kills_restarts_and_stops() {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let url = cluster.admin_url("postgres");
    connect(&url)
        .await
        .batch_execute("CREATE TABLE kept (round int)")
        .await
        .unwrap();
    for round in 0..4 {
        let writer = connect(&url).await;
        writer
            .execute("INSERT INTO kept VALUES ($1)", &[&round])
            .await
            .unwrap();
        writer
            .batch_execute("BEGIN; INSERT INTO kept VALUES (99)")
            .await
            .unwrap();
        // A backend that computes does not notice its postmaster's death by itself.
        let busy = connect(&url).await;
        let busy = tokio::spawn(async move {
            busy.query("SELECT count(*) FROM generate_series(1, 1e12)", &[])
                .await
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        match round {
            0 | 1 => {
                cluster.kill9().await;
                cluster.start_again().await;
            }
            2 => cluster.restart().await,
            _ => {
                cluster.stop().await;
                assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
                cluster.start_again().await;
            }
        }
        assert!(busy.await.unwrap().is_err());
        assert!(writer.execute("SELECT 1", &[]).await.is_err());
        let rows = connect(&url)
            .await
            .query("SELECT round FROM kept ORDER BY round", &[])
            .await
            .unwrap();
        let rounds: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(rounds, (0..=round).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn settings_and_passwords_are_as_asked_for() {
    let options = PgOptions {
        settings: vec![("work_mem".to_owned(), "7MB".to_owned())],
        ..PgOptions::default()
    };
    let cluster = PgCluster::start(options).await;
    let admin = connect(&cluster.admin_url("postgres")).await;
    let setting = async |name: &str| -> String {
        admin
            .query_one(&format!("SHOW {name}"), &[])
            .await
            .unwrap()
            .get(0)
    };
    assert_eq!(setting("work_mem").await, "7MB");
    assert_eq!(setting("max_connections").await, "300");
    assert_eq!(setting("fsync").await, "off");
    assert_eq!(setting("unix_socket_directories").await, "");
    admin
        .batch_execute("CREATE ROLE reader LOGIN PASSWORD 'p@ss/w:rd%?'")
        .await
        .unwrap();
    connect(&cluster.url("reader", "p@ss/w:rd%?", "postgres")).await;
    let refused = tokio_postgres::connect(&cluster.url("reader", "guess", "postgres"), NoTls).await;
    assert_eq!(
        refused
            .err()
            .unwrap()
            .code()
            .map(|code| code.code().to_owned())
            .as_deref(),
        Some("28P01")
    );
}

#[tokio::test]
async fn dropping_a_cluster_leaves_nothing() {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let url = cluster.admin_url("postgres");
    let rows = connect(&url)
        .await
        .query_one("SHOW data_directory", &[])
        .await
        .unwrap();
    let data: String = rows.get(0);
    assert!(std::path::Path::new(&data).exists());
    let start = Instant::now();
    drop(cluster);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "an immediate stop writes no checkpoint"
    );
    assert!(!std::path::Path::new(&data).exists());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
}

#[tokio::test]
async fn what_processors_do_for_it_is_counted_and_kept_when_connections_end() {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let before = cluster.processor_time().await;
    let client = connect(&cluster.admin_url("postgres")).await;
    // It ends when its own process has worked for so long, however busy the machine is.
    let sql = "do $$ begin
                   while (select sum(ticks::bigint) from (select unnest((regexp_split_to_array(
                              pg_read_file('/proc/self/stat'), '[ ]'))[14:15]) as ticks) own) < 50 loop
                       perform count(*) from generate_series(1, 10000);
                   end loop;
               end $$";
    client.batch_execute(sql).await.unwrap();
    let during = cluster.processor_time().await;
    assert!(
        during >= before + Duration::from_millis(400),
        "{before:?}, {during:?}"
    );
    let row = client.query_one("select pg_backend_pid()", &[]).await;
    let pid: i32 = row.unwrap().get(0);
    drop(client);
    // While it ends it may be counted nowhere for a moment.
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(cluster.processor_time().await >= during);
}
