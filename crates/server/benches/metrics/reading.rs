//! Reading samples and aggregates, and rolling late samples up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use utxoiq_store::metrics::{Accept, Batch, Interval, NewSample, SeriesName};

use crate::{
    Setting,
    data::Data,
    measure::{
        Options,
        driver::{Sample, drive},
        report::{C3_3, compare, print_table},
    },
    psql,
    raw::RawClient,
    service,
};

/// Connections that read the same.
const READERS: usize = 64;

/// Reads of each side.
const READS: u32 = 20;

/// Rounds of the slow side.
const FEW: usize = 3;

fn request(setting: &Setting, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n",
        setting.token
    )
}

fn range(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    format!(
        "start_time={}&end_time={}",
        from.format("%FT%TZ"),
        to.format("%FT%TZ")
    )
}

/// 86,400 samples of a day, streamed whole, beside psql reading the same rows.
pub async fn whole_day(setting: &Setting, data: &Data) {
    if !setting.wants("read day") {
        return;
    }
    let from = data.to - TimeDelta::days(1);
    let url = setting.db.app_url();
    let select = format!(
        "select sampled_at, value, metadata from system_metrics where series_id = {} and sampled_at >= '{}' and sampled_at < '{}' order by sampled_at;\n",
        data.dense,
        from.to_rfc3339(),
        data.to.to_rfc3339()
    );
    let path = format!(
        "http://{}/api/v1/monitoring/metrics/samples?service_name=bench&metric_type=dense&format=ndjson&{}",
        setting.address,
        range(from, data.to)
    );
    utxoiq_store::cold::use_ring();
    let client = reqwest::Client::new();
    println!("read day: 86400 samples of one series in {READS} reads, one after the other:");
    for round in 0..setting.options.rounds {
        let (url, script) = (url.clone(), select.repeat(READS as usize));
        let theirs = tokio::task::spawn_blocking(move || {
            // What starting psql takes is not reading.
            let start = psql::run(&url, "select 1;\n");
            psql::run(&url, &script).saturating_sub(start)
        });
        let theirs = theirs.await.unwrap();
        let began = Instant::now();
        for _ in 0..READS {
            let mut answer = client
                .get(&path)
                .bearer_auth(&setting.token)
                .send()
                .await
                .unwrap()
                .error_for_status()
                .unwrap();
            let mut lines = 0;
            while let Some(bytes) = answer.chunk().await.unwrap() {
                lines += bytes.split(|byte| *byte == b'\n').count() - 1;
            }
            assert_eq!(lines, 86_400);
        }
        let ours = began.elapsed();
        let each = |taken: Duration| taken.as_secs_f64() * 1_000.0 / f64::from(READS);
        println!(
            "  round {round}: NDJSON over HTTP {:.1} ms, psql {:.1} ms, ratio {:.2} (goal 1.50)",
            each(ours),
            each(theirs),
            ours.as_secs_f64() / theirs.as_secs_f64()
        );
    }
}

/// 1,100 samples in the contract's form, by many readers at once, beside a constant answer of the same bytes.
pub async fn many_readers(setting: &Setting, data: &Data) {
    if !setting.wants("read 24 hours") {
        return;
    }
    let from = data.to - TimeDelta::minutes(1_100);
    let path = format!(
        "/api/v1/monitoring/metrics?service_name=bench&metric_type=sparse&labels=host%3D3&limit=10000&{}",
        range(from, from + TimeDelta::hours(24))
    );
    let request = request(setting, &path);
    let mut client = RawClient::connect(setting.address).await;
    for _ in 0..20 {
        client.ask(request.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = Bytes::copy_from_slice(client.ask(request.as_bytes()).await);
    let samples = answer
        .windows(13)
        .filter(|window| window == b"\"metric_value")
        .count();
    println!(
        "read 24 hours: {samples} samples, {} bytes, {READERS} connections; goal 3500/s",
        answer.len()
    );
    let constant = service::constant(answer).await;
    let options = Options {
        clients: READERS,
        only: None,
        ..setting.options.clone()
    };
    options.announce("a constant answer of the same bytes");
    let comparison = compare(
        &options,
        "HTTP: 24 hours of a series, hot",
        C3_3,
        async || ask(&options, setting.address, &request).await,
        async || ask(&options, constant, &request).await,
    )
    .await;
    print_table("constant", [comparison]);
}

async fn ask(options: &Options, address: std::net::SocketAddr, request: &str) -> Sample {
    let mut clients = Vec::new();
    for _ in 0..options.clients {
        clients.push(Mutex::new(RawClient::connect(address).await));
    }
    let (clients, request): (Arc<[_]>, Arc<str>) = (clients.into(), request.into());
    drive(options, move |number, _| {
        let (clients, request) = (Arc::clone(&clients), Arc::clone(&request));
        async move {
            let mut client = clients[number].lock().await;
            client.ask(request.as_bytes()).await;
        }
    })
    .await
}

fn median(mut taken: Vec<f64>) -> f64 {
    taken.sort_by(f64::total_cmp);
    taken[taken.len() / 2]
}

/// Aggregates of the whole range beside plain SQL over the samples.
pub async fn aggregates(setting: &Setting, data: &Data) {
    if !setting.wants("aggregate") {
        return;
    }
    println!(
        "aggregate: {} days of one series with a sample a second; medians:",
        data.days
    );
    let plain = setting.db.client(utxoiq_store::db::roles::APP).await;
    plain.batch_execute("set jit = off").await.unwrap();
    let mut client = RawClient::connect(setting.address).await;
    for interval in Interval::ALL {
        let name = interval.as_str();
        let path = format!(
            "/api/v1/monitoring/metrics/aggregate?service_name=bench&metric_type=dense&interval={name}&{}",
            range(data.from, data.to)
        );
        let request = request(setting, &path);
        let mut ours = Vec::new();
        for _ in 0..=READS {
            let began = Instant::now();
            client.ask(request.as_bytes()).await;
            ours.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        let sql = format!(
            "select date_trunc('{name}', sampled_at), avg(value), min(value), max(value), count(*) from system_metrics
             where series_id = $1 and sampled_at >= $2 and sampled_at < $3 group by 1 order by 1"
        );
        let statement = plain.prepare(&sql).await.unwrap();
        let mut theirs = Vec::new();
        for _ in 0..FEW {
            let began = Instant::now();
            plain
                .query(&statement, &[&data.dense, &data.from, &data.to])
                .await
                .unwrap();
            theirs.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "  by {name:4}: over HTTP {ours:.2} ms, plain SQL {theirs:.0} ms, {:.0} times as fast (goal 100)",
            theirs / ours
        );
    }
}

/// 30 late samples in 30 old days.
pub async fn late(setting: &Setting, data: &Data) {
    if !setting.wants("late") {
        return;
    }
    let metrics = setting.store.metrics();
    let mut taken = Vec::new();
    let days = 30.min(data.days - 1);
    for round in 0..5 {
        let mut batch = Batch::default();
        let series = batch.series(SeriesName {
            service_name: "bench".into(),
            metric_type: "dense".into(),
            unit: "ms".into(),
            labels: [("host".to_owned(), "0".to_owned())].into(),
        });
        for day in 0..days {
            let at = data.from + TimeDelta::days(day) + TimeDelta::hours(7);
            let at = at.timestamp_micros() + 500_000 + round;
            batch.push(NewSample {
                series,
                at: Some(at),
                value: 1.0,
                metadata: None,
            });
        }
        let recorded = metrics
            .record(batch, Accept::Whole, None, setting.store.now())
            .await
            .unwrap();
        assert_eq!(recorded.tally().stored, u64::try_from(days).unwrap());
        let began = Instant::now();
        let mut again = 0;
        while again == 0 {
            again = metrics.roll_up(setting.store.now(), 1).await.unwrap().again;
        }
        taken.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    println!(
        "late: {days} samples in {days} old days rolled up again in {:.0} ms (median of 5; goal 100)",
        median(taken)
    );
}
