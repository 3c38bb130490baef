//! Remote write, spoken by Prometheus itself.

use std::{collections::HashMap, net::SocketAddr, process::Child};

use tokio::net::TcpListener;

use super::*;
use crate::live::encode;

/// The server, which is taken out of its package once: installed, it would be started as a service.
async fn program() -> Result<PathBuf, String> {
    let folder = kept();
    let program = folder.join("prometheus/usr/bin/prometheus");
    if program.exists() {
        return Ok(program);
    }
    let download = folder.join("download");
    std::fs::create_dir_all(&download).map_err(|error| error.to_string())?;
    if let Err(why) = run("apt-get", &["download", "prometheus"], &download).await {
        // A fresh machine knows no packages yet.
        run("apt-get", &["update"], &download)
            .await
            .map_err(|_| why)?;
        run("apt-get", &["download", "prometheus"], &download).await?;
    }
    let unpack = "dpkg-deb -x prometheus_*.deb ../prometheus";
    run("sh", &["-c", unpack], &download).await?;
    Ok(program)
}

/// A program that is ended with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Prometheus makes of itself has no quantile without observations, and no label that is not ASCII.
async fn exporter() -> SocketAddr {
    let text = "# TYPE odd summary\nodd{quantile=\"0.5\",zone=\"küche\"} NaN\nodd_sum 0.1\nodd_count 0\n\
                # TYPE most gauge\nmost +Inf\nleast_bytes -1.7976931348623157e-300\nempty{none=\"\"} 1\n";
    let router = axum::Router::new().route("/metrics", axum::routing::get(async move || text));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

async fn start(program: &Path, folder: &Path, live: &Live) -> (Ended, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = free.local_addr().unwrap();
    drop(free);
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n\
         - {{job_name: prometheus, static_configs: [{{targets: ['{own}']}}]}}\n\
         - {{job_name: odd ones, static_configs: [{{targets: ['{}']}}]}}\n\
         remote_write:\n\
         - url: http://{}/api/v1/write\n  \
           authorization: {{credentials: {}}}\n  \
           queue_config: {{batch_send_deadline: 200ms}}\n",
        exporter().await,
        live.address,
        live.token
    );
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let child = std::process::Command::new(program)
        .arg(format!("--web.listen-address={own}"))
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    (Ended(child.unwrap()), own)
}

/// What names a sample: service, type, labels, milliseconds.
type Named = (String, String, Value, i64);

/// Every sample that Prometheus has up to a time.
async fn kept_by_prometheus(
    live: &Live,
    own: SocketAddr,
    until: DateTime<Utc>,
) -> Vec<(Named, f64)> {
    let query = encode("{__name__!=\"\"}[1m]");
    let url = format!(
        "http://{own}/api/v1/query?query={query}&time={}",
        until.timestamp()
    );
    let request = live.client.get(url);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let mut all = Vec::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        let mut labels = series["metric"].as_object().unwrap().clone();
        let mut take = |name: &str| labels.remove(name).unwrap().as_str().unwrap().to_owned();
        let (name, job) = (take("__name__"), take("job"));
        for sample in series["values"].as_array().unwrap() {
            #[allow(clippy::cast_possible_truncation, reason = "a time in this century")]
            let millis = (sample[0].as_f64().unwrap() * 1_000.0).round() as i64;
            let value = sample[1]
                .as_str()
                .unwrap()
                .replace("Inf", "inf")
                .parse()
                .unwrap();
            let named = (job.clone(), name.clone(), labels.clone().into(), millis);
            all.push((named, value));
        }
    }
    all
}

#[tokio::test]
async fn every_sample_that_prometheus_has_sent_is_found_again() {
    let program = match program().await {
        Ok(program) => program,
        Err(why) => return skip(&why),
    };
    let live = Live::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let (prometheus, own) = start(&program, folder.path(), &live).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let until = ago(0);
    // What was scraped by then is sent within a second; the next answer says so.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let sent = kept_by_prometheus(&live, own, until).await;
    drop(prometheus);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let found: HashMap<_, _> = stored(&live)
        .await
        .into_iter()
        .map(|(service, metric, _, labels, at, value, _)| {
            ((service, metric, labels.to_string(), at), value)
        })
        .collect();
    let (mut numbers, mut others) = (0, BTreeSet::new());
    for ((service, metric, labels, millis), value) in &sent {
        let named = (
            service.clone(),
            metric.clone(),
            labels.to_string(),
            millis * 1_000,
        );
        let kept = found.get(&named).copied();
        if value.is_finite() {
            numbers += 1;
            assert_eq!(
                kept.map(f64::to_bits),
                Some(value.to_bits()),
                "{named:?}\n{log}"
            );
        } else {
            assert_eq!(kept, None);
            others.insert(metric.as_str());
        }
    }
    assert!(numbers > 1_000, "only {numbers} samples were sent: {log}");
    assert!(
        others.is_superset(&BTreeSet::from(["odd", "most"])),
        "{others:?}"
    );
    assert!(
        !log.contains("partly_refused") && !log.contains("non-recoverable"),
        "{log}"
    );
}
