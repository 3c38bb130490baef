//! Archiving a day of samples, beside psql's `\copy` of the same rows (C3.5, C7.3).
//!
//! Twice `--rows` samples of 20 series lie in one day's partition, in the order of their times, as they came in. In turns they are
//! archived into a folder (encoded, hashed, written to the disk, then read back, hashed, decoded and compared), and copied by psql
//! into a file. `./dev bench` starts a throw-away PostgreSQL for it. Nothing is asserted.

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

#[path = "../tests/it/support.rs"]
mod database;
#[path = "support/measure.rs"]
mod measure;
#[path = "../../server/benches/metrics/psql.rs"]
mod psql;

use std::{fs, path::Path, time::Instant};

use chrono::{NaiveDate, NaiveTime};
use database::TestDb;
use tempfile::TempDir;
use tokio_postgres::Client;
use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    cold::{ColdStore, Dataset, Fetched, ObjectKey, SampleRange, SeriesNames, Written},
    config::Loader,
    db::Copied,
};
use uuid::Uuid;

use measure::Options;

/// How many series report.
const SERIES: i64 = 20;

/// What archiving may cost and gain.
const GOALS: &str = "goals: write at least 0.5 of \\copy, 6 bytes a row where values have two decimals, 300 MB of memory";

/// Values: a title, and their expression for the n-th sample of the series s.
const VALUES: [(&str, &str); 2] = [
    (
        "values with two decimals that walk",
        "round((100 + sum(random() - 0.5) over (partition by s order by n))::numeric, 2)::float8",
    ),
    (
        "values of which every digit is random",
        "100 + 30 * sin(n / 13750.98)::float8 + 10 * random()",
    ),
];

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    println!("{GOALS}");
    for (title, values) in VALUES {
        if options
            .only
            .as_ref()
            .is_some_and(|only| !title.contains(only.as_str()))
        {
            continue;
        }
        let bench = Bench::new(&options, values).await;
        bench.measure(&options, title).await;
    }
    println!("most memory: {:.0} MB", most_memory());
}

struct Bench {
    db: TestDb,
    admin: Client,
    day: NaiveDate,
    rows: i64,
    names: SeriesNames,
    store: ColdStore,
    folder: TempDir,
}

/// One side of one round.
struct Round {
    copied: f64,
    ordered: f64,
    written: f64,
    proved: f64,
}

impl Bench {
    async fn new(options: &Options, values: &str) -> Self {
        let db = TestDb::new().await;
        let admin = db.admin().await;
        let day = SystemClock.now().date_naive().pred_opt().unwrap();
        let rows = options.rows * 2 / SERIES * SERIES;
        let names = fill(&admin, day, rows, values).await;
        let folder = TempDir::new().unwrap();
        let archive = folder.path().join("archive");
        fs::create_dir(&archive).unwrap();
        let vars = [
            ("URL", format!("file://{}", archive.display())),
            (
                "CACHE_DIR",
                folder.path().join("cache").display().to_string(),
            ),
        ];
        let vars = vars.map(|(name, value)| (format!("UTXOIQ_STORE_COLD__{name}"), value));
        let settings = Loader::default().env(vars).unwrap().finish().unwrap().cold;
        Self {
            store: ColdStore::open(&settings).unwrap().unwrap(),
            db,
            admin,
            day,
            rows,
            names,
            folder,
        }
    }

    async fn measure(&self, options: &Options, title: &str) {
        let heap = self
            .number("select pg_table_size($1::text::regclass)::float8")
            .await;
        let index = self
            .number("select pg_indexes_size($1::text::regclass)::float8")
            .await;
        let mut rounds = Vec::new();
        let mut last = None;
        for _ in 0..options.rounds {
            let (round, written, fetched) = self.round().await;
            rounds.push(round);
            last = Some((written, fetched));
        }
        let (written, fetched) = last.unwrap();
        let gzip = self.gzip();
        let rows = self.rows as f64;
        println!(
            "\n{} samples, {title}: median of {} rounds",
            self.rows, options.rounds
        );
        let rate = |of: fn(&Round) -> f64| rows / median(rounds.iter().map(of).collect());
        let ratio = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
        println!(
            "  psql \\copy                {:>10.0} rows/s",
            rate(|round| round.copied)
        );
        println!(
            "  psql \\copy, ordered       {:>10.0} rows/s",
            rate(|round| round.ordered)
        );
        println!(
            "  written                   {:>10.0} rows/s: {:.2} of \\copy, {:.2} of the ordered one",
            rate(|round| round.written),
            ratio(|round| round.copied / round.written),
            ratio(|round| round.ordered / round.written),
        );
        println!(
            "  proved                    {:>10.0} rows/s",
            rate(|round| round.proved)
        );
        println!(
            "  written and proved        {:>10.0} rows/s",
            rate(|round| round.written + round.proved)
        );
        println!(
            "  bytes a row: {:.2} archived, {:.1} in the heap, {:.1} in indexes, {:.2} as gzip'd CSV",
            written.bytes as f64 / rows,
            heap / rows,
            index / rows,
            gzip / rows
        );
        read(&fetched).await;
    }

    async fn round(&self) -> (Round, Written, Fetched) {
        let columns = "series_id, sampled_at, value, metadata";
        let order = "order by series_id, sampled_at";
        let partition = self.partition();
        let url = self.db.admin_url();
        let file = self.folder.path().join("copied");
        let copy = |order: &str| {
            let script = format!(
                "\\copy (select {columns} from {partition} {order}) to '{}'\n",
                file.display()
            );
            psql::run(&url, &script).as_secs_f64()
        };
        let (copied, ordered) = (copy(""), copy(order));
        let key = ObjectKey::archive(Dataset::Metrics, self.day, 0, Uuid::new_v4());
        let began = Instant::now();
        let sql = format!(
            "copy (select series_id, sampled_at, value, metadata::text from {partition} {order}) to stdout (format binary)"
        );
        let rows = Copied::over(self.admin.copy_out(&sql).await.unwrap());
        let written = self
            .store
            .write(key, rows, Some(&self.names))
            .await
            .unwrap();
        let writing = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let fetched = self.store.prove(key, &written).await.unwrap();
        let round = Round {
            copied,
            ordered,
            written: writing,
            proved: began.elapsed().as_secs_f64(),
        };
        (round, written, fetched)
    }

    fn partition(&self) -> String {
        format!("system_metrics_{}", self.day.format("%Y%m%d"))
    }

    async fn number(&self, sql: &str) -> f64 {
        let row = self
            .admin
            .query_one(sql, &[&self.partition()])
            .await
            .unwrap();
        row.get(0)
    }

    fn gzip(&self) -> f64 {
        let file = self.folder.path().join("copied.csv.gz");
        let script = format!(
            "\\copy (select series_id, sampled_at, value, metadata from {} order by series_id, sampled_at) to program 'gzip -c > {}' csv\n",
            self.partition(),
            file.display()
        );
        psql::run(&self.db.admin_url(), &script);
        size(&file)
    }
}

fn size(file: &Path) -> f64 {
    fs::metadata(file).unwrap().len() as f64
}

/// Makes the day and its samples; gives what the series are called.
async fn fill(admin: &Client, day: NaiveDate, rows: i64, values: &str) -> SeriesNames {
    let start = day.and_time(NaiveTime::MIN).and_utc();
    admin
        .execute("select metric_make_day($1, $2)", &[&day, &start])
        .await
        .unwrap();
    let series = "insert into metric_series (service_name, metric_type, unit, labels, created_at)
        select 'block-processor', 'latency ' || n, 'ms', jsonb_build_object('host', n::text), $2
        from generate_series(1, $1::bigint) n returning id, metric_type";
    let mut names = SeriesNames::new();
    let series = admin.query(series, &[&SERIES, &start]).await.unwrap();
    let first: i32 = series[0].get(0);
    for row in series {
        let metric_type: String = row.get(1);
        names.insert(
            row.get(0),
            "block-processor",
            metric_type,
            "ms",
            "{\"host\": \"1\"}",
        );
    }
    let fill = format!(
        "insert into system_metrics (series_id, sampled_at, value)
         select $1::int4 + s::int4, $2::timestamptz + n * interval '1 day' / $3::bigint, {values}
         from generate_series(0, {SERIES} - 1) s, generate_series(0::bigint, $3::bigint - 1) n
         order by 2, 1"
    );
    admin
        .execute(&fill, &[&first, &start, &(rows / SERIES)])
        .await
        .unwrap();
    admin.batch_execute("vacuum analyze").await.unwrap();
    admin.batch_execute("checkpoint").await.unwrap();
    names
}

/// A day of one series, and of all, out of the archive.
async fn read(fetched: &Fetched) {
    let names = fetched.names().await.unwrap();
    let all: Vec<i32> = (0..100_000).filter(|id| names.get(*id).is_some()).collect();
    for series in [all[..1].to_vec(), all] {
        let range = SampleRange {
            from: i64::MIN,
            to: i64::MAX,
            series,
        };
        let (count, began) = (range.series.len(), Instant::now());
        let mut samples = fetched.samples(range).await.unwrap();
        let (mut rows, mut sum) = (0, 0.0);
        while let Some(some) = samples.next().await.unwrap() {
            rows += some.len();
            sum += some.iter().map(|sample| sample.value).sum::<f64>();
        }
        println!(
            "  a day of {count} series summed: {rows} samples in {:.0} ms (mean {:.2})",
            began.elapsed().as_secs_f64() * 1e3,
            sum / rows as f64
        );
    }
}

/// The most memory that this process had, in MB.
fn most_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1_024.0 / 1e6
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
