//! Many writers at once.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, error::SqlState};
use utxoiq_store::db::roles;
use utxoiq_store_testkit::urls::scale;

use crate::support::TestDb;

const APPEND: &str = "select audit_append($1, $2, 'archive', $3, $4)";

async fn append(client: &Client, writer: u64, turn: u64) -> Result<i64, tokio_postgres::Error> {
    let subject = format!("writer {writer} turn {turn}");
    let row = client
        .query_one(APPEND, &[&super::noon(), &"storm", &subject, &"{}"])
        .await?;
    row.try_get(0)
}

/// One writer: most turns commit, some are rolled back, some run under stricter isolation and may fail there.
async fn write(client: Client, writer: u64, turns: u64) -> Vec<i64> {
    let mut committed = Vec::new();
    for turn in 0..turns {
        let begin = match turn % 5 {
            0 => "begin isolation level repeatable read; select from audit_head",
            1 => "begin isolation level serializable; select from audit_head",
            _ => "begin",
        };
        client.batch_execute(begin).await.unwrap();
        let outcome = append(&client, writer, turn).await;
        let keep = turn % 7 != 3;
        match outcome {
            Ok(sequence) if keep => match client.batch_execute("commit").await {
                Ok(()) => committed.push(sequence),
                Err(error) => assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE)),
            },
            Ok(_) => client.batch_execute("rollback").await.unwrap(),
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
                assert!(turn % 5 < 2, "READ COMMITTED waits: {error:?}");
                client.batch_execute("rollback").await.unwrap();
            }
        }
    }
    committed
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_make_one_chain_without_gaps_whatever_is_rolled_back_or_killed() {
    let db = TestDb::new().await;
    let started = Instant::now();
    let mut writers = Vec::new();
    for writer in 0..16 {
        let role = [roles::APP, roles::RETENTION][usize::from(writer % 2 == 0)];
        let client = db.client(role).await;
        writers.push(tokio::spawn(write(client, writer, scale(60, 600))));
    }
    // Some hold the head, and are killed with it.
    let admin = db.admin().await;
    for turn in 0..5 {
        let client = db.client(roles::APP).await;
        client.batch_execute("begin").await.unwrap();
        append(&client, 99, turn).await.unwrap();
        let pid: i32 = client
            .query_one("select pg_backend_pid()", &[])
            .await
            .unwrap()
            .get(0);
        tokio::time::sleep(Duration::from_millis(20)).await;
        admin
            .execute("select pg_terminate_backend($1)", &[&pid])
            .await
            .unwrap();
    }
    let mut committed = Vec::new();
    for writer in writers {
        committed.extend(writer.await.unwrap());
    }
    let elapsed = started.elapsed();
    committed.sort_unstable();
    let count = i64::try_from(committed.len()).unwrap();
    eprintln!("{count} appends committed by 16 writers in {elapsed:?}");
    assert!(count > 16 * 20);
    let expected: Vec<i64> = (1..=count).collect();
    assert_eq!(
        committed, expected,
        "numbers have no gaps, and none is there twice"
    );

    let verification = db.store().await.audit().verify(&[]).await.unwrap();
    assert!(verification.is_clean(), "{verification:?}");
    assert_eq!(verification.entries, committed.len() as u64);
}

/// What the head costs: run by hand with `--ignored`, beside pgbench inserting the same row into a plain table.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn appends_a_second() {
    let db = TestDb::new().await;
    let started = Instant::now();
    let until = Duration::from_secs(5);
    let mut writers = Vec::new();
    for writer in 0..16 {
        let client = db.client(roles::APP).await;
        writers.push(tokio::spawn(async move {
            let mut count = 0_u64;
            while started.elapsed() < until {
                append(&client, writer, count).await.unwrap();
                count += 1;
            }
            count
        }));
    }
    let mut count = 0;
    for writer in writers {
        count += writer.await.unwrap();
    }
    let elapsed = started.elapsed();
    eprintln!(
        "{:.0} appends/s with 16 clients",
        count as f64 / elapsed.as_secs_f64()
    );
    let started = Instant::now();
    let verification = db.store().await.audit().verify(&[]).await.unwrap();
    assert!(verification.is_clean());
    eprintln!(
        "{} entries verified in {:?}",
        verification.entries,
        started.elapsed()
    );
}
