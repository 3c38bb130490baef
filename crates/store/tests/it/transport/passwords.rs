//! Passwords from a file and from a token service; the roles' passwords change along.

use std::{fs, time::Duration};

use tokio_postgres::Client;
use utxoiq_store::db::{Dedicated, pool::ConnectCause};
use utxoiq_store_testkit::{PgCluster, PgOptions, TokenService};

use super::{failures, pool, told};
use crate::support::connect;

async fn world() -> (PgCluster, Client) {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let admin = connect(&cluster.admin_url("postgres")).await;
    admin.batch_execute("create role iam login").await.unwrap();
    (cluster, admin)
}

async fn set(admin: &Client, password: &str) {
    let sql = format!("alter role iam password '{password}'");
    admin.batch_execute(&sql).await.unwrap();
}

fn address(cluster: &PgCluster, source: &str) -> String {
    format!(
        "postgresql://iam@127.0.0.1:{}/postgres?password_source={source}",
        cluster.port()
    )
}

#[tokio::test]
async fn new_connections_take_the_token_of_now_and_old_ones_live_on() {
    let (cluster, admin) = world().await;
    set(&admin, "t0ken-1").await;
    let service = TokenService::start("t0ken-1", 3_600).await;
    let source = format!("{}%3Fkey=k3y", service.url());
    let url = address(&cluster, &source);
    let pool = pool(&url).unwrap();
    let first = pool.get().await.unwrap();
    let second = pool.get().await.unwrap();
    assert_eq!(service.asked(), 1, "a token is kept while it is good");

    // Ended before its time: the one that was kept is refused once, and another one asked for.
    set(&admin, "t0ken-2").await;
    service.rotate("t0ken-2", u64::MAX);
    let third = pool.get().await.unwrap();
    assert_eq!(service.asked(), 2);
    for connection in [&first, &second, &third] {
        connection.execute("select 1", &[]).await.unwrap();
    }
    Dedicated::open(&url, "transport").await.unwrap();
    assert_eq!(service.asked(), 2, "all of a process share it");

    // One that nobody accepts: no storm.
    set(&admin, "t0ken-3").await;
    let error = pool.get().await.unwrap_err();
    assert!(
        told(&error, "t0ken").contains("role or password"),
        "{error}"
    );
    assert_eq!(failures(&pool), [(ConnectCause::Authentication, 1)]);
    assert_eq!(service.asked(), 3);
}

#[tokio::test]
async fn a_token_is_asked_for_again_when_its_time_is_over() {
    let (cluster, admin) = world().await;
    set(&admin, "t0ken-1").await;
    let service = TokenService::start("t0ken-1", 2).await;
    let url = address(&cluster, &service.url());
    Dedicated::open(&url, "transport").await.unwrap();
    service.rotate("t0ken-2", 2);
    set(&admin, "t0ken-2").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let failed = || {
        cluster
            .log()
            .matches("password authentication failed")
            .count()
    };
    Dedicated::open(&url, "transport").await.unwrap();
    assert_eq!((service.asked(), failed()), (2, 0));

    tokio::time::sleep(Duration::from_secs(2)).await;
    service.babble("t0ken-2 is not said in this way");
    let error = Dedicated::open(&url, "transport").await.err().unwrap();
    assert_eq!(error.code(), "database_password_unavailable");
    assert!(told(&error, "t0ken").contains("access_token"));
    drop(service);
    let pool = pool(&url).unwrap();
    let error = pool.get().await.unwrap_err();
    assert_eq!(error.code(), "database_password_unavailable");
    assert!(told(&error, "t0ken").contains("no token could be had"));
    // It may come back: tried as often as other failures that pass by themselves.
    assert_eq!(failures(&pool), [(ConnectCause::Password, 4)]);
}

#[tokio::test]
async fn a_password_file_is_read_anew_for_each_connection() {
    let (cluster, admin) = world().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let url = address(&cluster, &format!("file:{}", file.display()));
    let pool = pool(&url).unwrap();
    let mut held = Vec::new();
    for password in ["s3cret-1", "s3cret-2"] {
        set(&admin, password).await;
        fs::write(&file, format!("{password}\n")).unwrap();
        held.push(pool.get().await.unwrap());
        Dedicated::open(&url, "transport").await.unwrap();
    }
    fs::write(&file, "s3cret-3").unwrap();
    let error = pool.get().await.unwrap_err();
    told(&error, "s3cret");
    assert_eq!(failures(&pool), [(ConnectCause::Authentication, 1)]);
    fs::remove_file(&file).unwrap();
    let error = Dedicated::open(&url, "transport").await.err().unwrap();
    assert_eq!(error.code(), "database_password_unavailable");
}
