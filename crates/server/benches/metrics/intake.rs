//! Batches over HTTP beside `\copy` in binary form into the same partitioned table.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{Setting, data, psql, raw::RawClient};

/// The series that are reported together, and how often a round.
const SERIES: i32 = 100;
const TIMES: i64 = 5_000;

/// The samples of one request.
const BATCH: usize = 5_000;

const CLIENTS: usize = 6;

/// PostgreSQL counts from 2000-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

pub async fn measure(setting: &Setting) {
    println!(
        "intake: {CLIENTS} clients send batches of {BATCH} samples of {SERIES} series; \\copy sends the same rows in one go:"
    );
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let rounds = i32::try_from(setting.options.rounds).unwrap();
    for round in 0..rounds {
        // Rounds take turns in who begins; each side has series of its own, at the same times.
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                ours.push(over_http(setting, round).await);
            } else {
                theirs.push(by_copy(setting, round).await);
            }
        }
    }
    let count = f64::from(SERIES) * TIMES as f64;
    let rates = |seconds: &[f64]| {
        seconds
            .iter()
            .map(|seconds| format!("{:.0}", count / seconds))
            .collect::<Vec<_>>()
            .join(", ")
    };
    println!("  HTTP batches: {} samples/s", rates(&ours));
    println!("  psql \\copy:   {} samples/s", rates(&theirs));
    let ratio = theirs.iter().sum::<f64>() / ours.iter().sum::<f64>();
    println!("  ratio {ratio:.2} (goal 0.60)");
    println!("  {}", data::size(setting).await);
    println!(
        "  most memory of this process, clients and their bodies included: {} MB",
        peak_megabytes()
    );
}

fn start(setting: &Setting) -> DateTime<Utc> {
    // A day that is over, and no hour of it closed.
    let today = setting
        .store
        .now()
        .date_naive()
        .and_time(chrono::NaiveTime::MIN)
        .and_utc();
    today - TimeDelta::days(1)
}

fn at(start: DateTime<Utc>, n: i64) -> DateTime<Utc> {
    start + TimeDelta::seconds(n * 15)
}

async fn over_http(setting: &Setting, round: i32) -> f64 {
    let start = start(setting);
    let samples: Vec<String> = (0..TIMES)
        .flat_map(|n| {
            (0..SERIES).map(move |series| {
                format!(
                    "{{\"service_name\":\"bench-{round}\",\"metric_type\":\"type-{series}\",\"metric_value\":{}.25,\"unit\":\"ms\",\"timestamp\":\"{}\"}}",
                    (n * 7 + i64::from(series)) % 1_000,
                    at(start, n).to_rfc3339()
                )
            })
        })
        .collect();
    let requests: Arc<[Vec<u8>]> = samples
        .chunks(BATCH)
        .map(|batch| {
            let body = format!("[{}]", batch.join(","));
            format!(
                "POST /api/v1/monitoring/metrics/batch HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                setting.token,
                body.len()
            )
            .into_bytes()
        })
        .collect();
    drop(samples);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (requests, next, address) =
                (Arc::clone(&requests), Arc::clone(&next), setting.address);
            tokio::spawn(async move {
                let mut client = RawClient::connect(address).await;
                while let Some(request) = requests.get(next.fetch_add(1, Relaxed)) {
                    client.ask(request).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    began.elapsed().as_secs_f64()
}

async fn by_copy(setting: &Setting, round: i32) -> f64 {
    let admin = setting.db.admin().await;
    let start = start(setting);
    for day in [start, start + TimeDelta::days(1)] {
        admin
            .execute("select metric_make_day($1, $2)", &[&day.date_naive(), &day])
            .await
            .unwrap();
    }
    // Numbers that no series has: the rows are all that counts here.
    let first = 1_000_000 + round * SERIES;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for n in 0..TIMES {
        for series in 0..SERIES {
            bytes.extend(4_i16.to_be_bytes());
            bytes.extend(4_i32.to_be_bytes());
            bytes.extend((first + series).to_be_bytes());
            bytes.extend(8_i32.to_be_bytes());
            bytes.extend((at(start, n).timestamp_micros() - POSTGRES_EPOCH).to_be_bytes());
            bytes.extend(8_i32.to_be_bytes());
            bytes.extend(((n * 7 + i64::from(series)) as f64 + 0.25).to_be_bytes());
            bytes.extend((-1_i32).to_be_bytes());
        }
    }
    bytes.extend((-1_i16).to_be_bytes());
    file.write_all(&bytes).unwrap();
    file.flush().unwrap();
    let path = file.path().display();
    let script = format!(
        "\\copy system_metrics (series_id, sampled_at, value, metadata) from '{path}' (format binary)\n"
    );
    let url = setting.db.admin_url();
    let taken = tokio::task::spawn_blocking(move || psql::run(&url, &script))
        .await
        .unwrap();
    taken.as_secs_f64()
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u64 = peak
        .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    kilobytes / 1_024
}
