//! Metrics that are in cold storage: a day of `--rows` samples (2,000,000 unless said) in 1,000 series, archived, and read.
//!
//! Ranges begin and end within an hour, so that samples of the archive are read, and not only rollups. Each is measured with the
//! archive still to be downloaded, from a folder on this disk, and with a copy at hand. Goal for an aggregate: less than 1 s.
//! Nothing is asserted.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is printed: that is what it is for"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on fails"
)]
#![allow(
    dead_code,
    reason = "what is shared with other measurements is not all used here"
)]

#[path = "../../store/tests/it/support.rs"]
mod database;
#[path = "../../store/benches/support/measure.rs"]
mod measure;

use std::{fs, path::Path, sync::Arc, time::Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use tempfile::TempDir;
use utxoiq_store::{
    Store,
    clock::FixedClock,
    db::roles,
    metrics::{
        Interval, Rendered, Sample, Series, micros,
        read::{
            Selector,
            page::{SamplesPage, SamplesStart},
        },
    },
};

use database::TestDb;

/// Series with the same number of samples each.
const SERIES: i64 = 1_000;

/// How often each is measured with a copy at hand; the fastest is told, and the slowest.
const WARM: usize = 5;

struct Bench {
    store: Store,
    copies: TempDir,
    day: DateTime<Utc>,
}

#[tokio::main]
async fn main() {
    let rows = rows();
    let db = TestDb::new().await;
    let (objects, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let day = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
    let day = day.and_hms_opt(0, 0, 0).unwrap().and_utc();
    let clock = FixedClock::at(day + TimeDelta::days(2));
    let retention = db.url_of(roles::RETENTION);
    let url = format!("file://{}", objects.path().display());
    let folder = copies.path().join("copies");
    let settings = db.settings_with(&[
        ("UTXOIQ_STORE_DATABASE__RETENTION_URL", retention.as_str()),
        ("UTXOIQ_STORE_COLD__URL", url.as_str()),
        ("UTXOIQ_STORE_COLD__CACHE_DIR", folder.to_str().unwrap()),
        (
            "UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY",
            "a key of at least thirty-two characters",
        ),
    ]);
    let store = Store::with_clock(settings, Arc::new(clock.clone())).unwrap();
    let bench = Bench { store, copies, day };
    bench.make(&db, rows).await;
    println!("in the database:");
    bench.measure(false).await;
    let began = Instant::now();
    clock.set(day + TimeDelta::days(92));
    let run = bench.store.retention().unwrap();
    let report = run.run(day + TimeDelta::days(92), "bench").await.unwrap();
    assert_eq!(report.archived.len(), 1, "{report:?}");
    println!(
        "archived in {:.1} s: {} rows in {} bytes",
        began.elapsed().as_secs_f64(),
        report.archived[0].rows,
        report.archived[0].bytes
    );
    println!("in the archive:");
    bench.measure(true).await;
}

fn rows() -> i64 {
    let mut args = std::env::args().skip_while(|name| name != "--rows").skip(1);
    let rows = args.next().map(|rows| rows.parse().expect("a number"));
    rows.unwrap_or(2_000_000)
}

fn render(_: &Series, samples: &[Sample]) -> Rendered {
    let bytes = vec![b','; samples.len()];
    Rendered {
        bytes: bytes.into(),
        ends: (1..=u32::try_from(samples.len()).unwrap()).collect(),
    }
}

impl Bench {
    async fn make(&self, db: &TestDb, rows: i64) {
        let admin = db.admin().await;
        let series = "insert into metric_series (service_name, metric_type, unit, labels, created_at)
            select 'bench', 'latency', 'ms', jsonb_build_object('host', 'host-' || n), now() from generate_series(1, $1::bigint) n";
        admin.execute(series, &[&SERIES]).await.unwrap();
        let made = "select metric_make_day($1, $2)";
        admin
            .execute(made, &[&self.day.date_naive(), &self.day])
            .await
            .unwrap();
        let fill = "insert into system_metrics (series_id, sampled_at, value)
            select s.id, $1::timestamptz + n * (interval '24 hours' / $2::float8), 100 + 30 * sin(n / 137.0) + round(random()::numeric, 3)::float8
            from metric_series s cross join generate_series(0, $2::float8::bigint - 1) n order by 1, 2";
        let each = (rows / SERIES) as f64;
        admin.execute(fill, &[&self.day, &each]).await.unwrap();
        admin.batch_execute("vacuum analyze").await.unwrap();
        let target = self.day + TimeDelta::days(1);
        loop {
            let now = target + TimeDelta::hours(2);
            self.store.metrics().roll_up(now, 100).await.unwrap();
            let rolled = "select rolled_before from metric_rollup_state";
            let rolled: DateTime<Utc> = admin.query_one(rolled, &[]).await.unwrap().get(0);
            if rolled >= target {
                break;
            }
        }
    }

    async fn measure(&self, is_cold: bool) {
        for what in ["one", "all", "one day", "page", "stream"] {
            let mut took = Vec::new();
            if is_cold {
                forget(&self.copies.path().join("copies"));
                took.push(self.time(what).await);
            }
            let mut warm = Vec::new();
            for _ in 0..WARM {
                warm.push(self.time(what).await);
            }
            warm.sort_by(f64::total_cmp);
            let first = took
                .first()
                .map_or(String::new(), |took| format!("{took:>8.1} ms at first, "));
            println!(
                "  {what:<8} {first}{:>8.1} to {:.1} ms",
                warm[0],
                warm[WARM - 1]
            );
        }
    }

    async fn time(&self, what: &str) -> f64 {
        let metrics = self.store.metrics();
        let host = (what != "all" && what != "page" && what != "stream")
            .then(|| ("host".to_owned(), "host-500".to_owned()));
        let selector = Selector {
            service_name: Some("bench".into()),
            metric_type: Some("latency".into()),
            unit: None,
            labels: host.into_iter().collect(),
            from: micros(self.day + TimeDelta::minutes(20)),
            to: micros(self.day + TimeDelta::minutes(1_430)),
        };
        let began = Instant::now();
        match what {
            "page" => {
                let page = SamplesPage {
                    limit: 1_000,
                    start: SamplesStart::Offset(0),
                };
                let page = metrics.newest(&selector, page, None, &render).await;
                assert_eq!(page.unwrap().count, 1_000);
            }
            "stream" => {
                let mut read = metrics.samples(&selector, None).await.unwrap();
                while read.next().await.unwrap().is_some() {}
            }
            _ => {
                let interval = match what {
                    "one day" => Interval::Day,
                    _ => Interval::Hour,
                };
                let now = self.store.now();
                let given = metrics.aggregate(&selector, interval, None, now).await;
                assert!(!given.unwrap().buckets.is_empty());
            }
        }
        began.elapsed().as_secs_f64() * 1_000.0
    }
}

/// Throws the copies of archives away.
fn forget(folder: &Path) {
    for copy in fs::read_dir(folder).unwrap().flatten() {
        fs::remove_file(copy.path()).unwrap();
    }
}
