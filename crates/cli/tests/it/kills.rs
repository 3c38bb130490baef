//! The purpose of it all: a job survives the death of its worker, of the service and of the database.

use std::{collections::BTreeMap, fs, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use utxoiq_store_testkit::{process::Proc, urls};

use crate::support::{Service, text};

const FIRST: i64 = 800_000;
const LAST: i64 = 809_999;
const CHUNK: i64 = 25;

/// What is finished, as the ledger has it: chunk by chunk.
async fn finished_chunks(service: &Service) -> Vec<i64> {
    let sql =
        "select chunk from generate_series($1::int8, $2::int8, $3::int8) chunk, backfill_jobs j
               where int8range(chunk, chunk + $3) <@ (j.covered + coalesce(
                   (select range_agg(c.done) from backfill_claims c where c.job_id = j.id), '{}'))";
    let rows = service
        .admin()
        .await
        .query(sql, &[&FIRST, &LAST, &CHUNK])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn nanoseconds() -> u128 {
    #[allow(clippy::disallowed_methods)] // compared with the script's `date`
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

fn worker(service: &Service, script: &std::path::Path) -> Proc {
    let (from, to, chunk) = (FIRST.to_string(), LAST.to_string(), CHUNK.to_string());
    service.spawn(&[
        "backfill",
        "run",
        "--type",
        "blocks",
        "--from",
        &from,
        "--to",
        &to,
        "--chunk",
        &chunk,
        "--parallel",
        "4",
        "--tries",
        "20",
        "--retry-after",
        "0.05",
        "--",
        text(script),
        "{start}",
        "{end}",
    ])
}

/// 10,000 blocks by a command that fails at random 5 % of the time, while the worker, the server and PostgreSQL are
/// killed again and again: at the end the ledger covers the range, the job is completed, and no chunk that was
/// acknowledged before a kill ran again after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_survives_kill_9_of_worker_server_and_database() {
    let kills = i64::try_from(urls::scale(20, 60)).unwrap();
    let seed = urls::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut service = Service::start(&[("BACKFILL__LEASE_SECONDS", "3")]).await;
    let journal = service.path("journal");
    let script = service.script(
        "fetch.sh",
        &format!(
            "echo \"$(date +%s%N) $1 $2\" >> '{}'\nsleep 0.05\n\
             [ $(($(od -An -N2 -tu2 /dev/urandom) % 20)) -ne 0 ] || {{ echo 'the node did not answer' >&2; exit 1; }}",
            journal.display()
        ),
    );
    let mut running = worker(&service, &script);
    // (when the ledger was read, what was in it)
    let mut acknowledged: Vec<(u128, Vec<i64>)> = Vec::new();
    let mut killed = BTreeMap::<&str, u32>::new();
    for kill in 1..=kills {
        let threshold = usize::try_from((LAST - FIRST + 1) / CHUNK * kill / (kills + 1)).unwrap();
        let chunks = wait_for(&service, &running, threshold).await;
        acknowledged.push((nanoseconds(), chunks));
        // Each of the three at least once, then at random.
        let victim = if kill <= 3 {
            kill - 1
        } else {
            random.random_range(0..3)
        };
        match victim {
            0 => {
                running.kill9_alone();
                running.wait(Duration::from_secs(10)).await.unwrap();
                running = worker(&service, &script);
                *killed.entry("worker").or_default() += 1;
            }
            1 => {
                service.server().kill9();
                service
                    .server()
                    .wait(Duration::from_secs(10))
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
                service.start_server().await;
                *killed.entry("server").or_default() += 1;
            }
            _ => {
                service.cluster.kill9().await;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
                service.cluster.start_again().await;
                *killed.entry("database").or_default() += 1;
            }
        }
    }
    let status = running.wait(Duration::from_mins(5)).await;
    let output = running.output();
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(0),
        "seed {seed}\n{output}"
    );

    let row = service
        .admin()
        .await
        .query_one(
            "select status, covered::text, (select count(*) from backfill_jobs), progress_percentage, completed_at is not null
             from backfill_jobs",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "completed", "seed {seed}");
    assert_eq!(row.get::<_, &str>(1), format!("{{[{FIRST},{})}}", LAST + 1));
    assert_eq!((row.get::<_, i64>(2), row.get::<_, bool>(4)), (1, true));
    let ran = again_after_acknowledged(&fs::read_to_string(&journal).unwrap(), &acknowledged);
    assert!(
        ran.is_empty(),
        "seed {seed}: acknowledged before a kill and run again after it: {ran:?}"
    );
    println!(
        "{killed:?} kills survived, {} runs of 400 chunks",
        fs::read_to_string(&journal).unwrap().lines().count()
    );
}

/// Waits until so many chunks are finished.
async fn wait_for(service: &Service, worker: &Proc, chunks: usize) -> Vec<i64> {
    let started = std::time::Instant::now();
    loop {
        let finished = finished_chunks(service).await;
        if finished.len() >= chunks {
            return finished;
        }
        assert!(
            started.elapsed() < Duration::from_mins(2),
            "stuck at {} of {chunks} chunks\n{}\n{}",
            finished.len(),
            worker.output(),
            service.server().output()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs that began after their chunk was seen in the ledger.
fn again_after_acknowledged(journal: &str, acknowledged: &[(u128, Vec<i64>)]) -> Vec<String> {
    journal
        .lines()
        .filter(|line| {
            let mut words = line.split(' ');
            let at: u128 = words.next().unwrap().parse().unwrap();
            let chunk: i64 = words.next().unwrap().parse().unwrap();
            acknowledged
                .iter()
                .any(|(seen, chunks)| *seen < at && chunks.contains(&chunk))
        })
        .map(str::to_owned)
        .collect()
}
