//! A backup beside bare `pg_dump -Fc`, and a restore with its proof beside bare `pg_restore -j2` (C8.1, C8.3).
//!
//! The database has `--rows` times 20 samples in ten days' partitions and as many ratings as `--rows`: with a million, 2 GB and
//! more. In turns it is dumped by pg_dump into a file and backed up into a folder on the same disk (one snapshot, a fingerprint of
//! every table, zstd, two recipients, SHA-256, manifest); then restored by pg_restore into an empty database, and proved by a drill
//! (downloaded, hashed, decrypted, unpacked, restored by pg_restore, every table, line of the catalogue and sequence compared).
//! `./dev bench` starts a throw-away PostgreSQL for it. Nothing is asserted.

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

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use database::TestDb;
use measure::Options;
use tempfile::TempDir;
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    backup::{Backup, KeyPair, Progress},
    clock::SystemClock,
    db::roles,
};

/// What it may cost.
const GOALS: &str = "goals: backup at most 1.3 of pg_dump's time and 0.9 of its size; restore and proof at most 1.6 of pg_restore's time; at most 200 MB of memory";

/// How many days of samples there are.
const DAYS: i32 = 10;

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    println!("{GOALS}");
    let bench = Bench::new(&options).await;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(bench.round().await);
    }
    bench.report(&rounds).await;
}

struct Bench {
    db: TestDb,
    admin: Client,
    store: Store,
    folder: TempDir,
}

/// One side of one round, in seconds and bytes.
struct Round {
    dumped: f64,
    dump_bytes: f64,
    backed_up: f64,
    read_back: f64,
    backup_bytes: f64,
    backup_memory: f64,
    restored: f64,
    drill_restored: f64,
    drill_compared: f64,
    drill: f64,
    drill_memory: f64,
}

impl Bench {
    async fn new(options: &Options) -> Self {
        let db = TestDb::new().await;
        let admin = db.admin().await;
        fill(&admin, options.rows).await;
        let folder = TempDir::new().unwrap();
        for name in ["store", "scratch"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let (recovery, drill) = (KeyPair::generate(), KeyPair::generate());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let vars = [
            ("DATABASE__BACKUP_URL", db.url_of(roles::BACKUP)),
            ("DATABASE__DRILL_URL", db.drill_url()),
            ("BACKUP_STORE__URL", format!("file://{}", path("store"))),
            ("BACKUP__RECOVERY_RECIPIENT", recovery.recipient),
            ("BACKUP__DRILL_RECIPIENT", drill.recipient),
            ("BACKUP__DRILL_IDENTITY", drill.identity.expose().to_owned()),
            ("BACKUP__SCRATCH_DIR", path("scratch")),
        ];
        let vars: Vec<(String, String)> = vars
            .into_iter()
            .map(|(name, value)| (format!("UTXOIQ_STORE_{name}"), value))
            .collect();
        let vars: Vec<(&str, &str)> = vars
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let config = db.settings_with(&vars);
        let store = Store::with_clock(config, Arc::new(SystemClock)).unwrap();
        Self {
            db,
            admin,
            store,
            folder,
        }
    }

    async fn round(&self) -> Round {
        let file = self.folder.path().join("dump");
        let began = Instant::now();
        self.tool(
            "pg_dump",
            self.db.name(),
            &["-Fc", "-f", &file.display().to_string()],
        );
        sync(&file);
        let dumped = began.elapsed().as_secs_f64();
        let dump_bytes = fs::metadata(&file).unwrap().len() as f64;

        forget_memory();
        let began = Instant::now();
        let backup = self.back_up().await;
        let whole = began.elapsed().as_secs_f64();
        let backup_memory = most_memory();
        let stored = backup.stored_at.unwrap() - backup.started_at;
        let backed_up = stored.as_seconds_f64();

        let restored = self.restore(&file).await;
        fs::remove_file(&file).unwrap();

        forget_memory();
        let began = Instant::now();
        let progress = Progress::default();
        let proof = self
            .store
            .backups()
            .drill(Some(backup.id), "bench", self.store.now(), &progress)
            .await
            .unwrap();
        let drill = began.elapsed().as_secs_f64();
        let seconds = |milliseconds: Option<i64>| milliseconds.unwrap() as f64 / 1_000.0;
        let round = Round {
            dumped,
            dump_bytes,
            backed_up,
            read_back: whole - backed_up,
            backup_bytes: backup.stored_bytes as f64,
            backup_memory,
            restored,
            drill_restored: seconds(proof.restore_milliseconds),
            drill_compared: seconds(proof.compare_milliseconds),
            drill,
            drill_memory: most_memory(),
        };
        fs::remove_file(
            self.folder
                .path()
                .join("store")
                .join(backup.key.to_string()),
        )
        .unwrap();
        round
    }

    async fn back_up(&self) -> Backup {
        let progress = Progress::default();
        self.store
            .backups()
            .make(None, "bench", self.store.now(), &progress)
            .await
            .unwrap()
    }

    /// pg_restore into an empty database.
    async fn restore(&self, file: &Path) -> f64 {
        let name = format!("{}_bare", self.db.name());
        self.admin
            .batch_execute(&format!("create database {name}"))
            .await
            .unwrap();
        let began = Instant::now();
        let file = file.display().to_string();
        self.tool("pg_restore", &name, &["-j2", "-d", &name, &file]);
        let restored = began.elapsed().as_secs_f64();
        self.admin
            .batch_execute(&format!("drop database {name}"))
            .await
            .unwrap();
        restored
    }

    fn tool(&self, tool: &str, database: &str, args: &[&str]) {
        let program = std::env::var_os("PG_BIN")
            .map_or_else(|| tool.into(), |folder| PathBuf::from(folder).join(tool));
        let url = url::Url::parse(&self.db.admin_url()).unwrap();
        let status = Command::new(program)
            .args(args)
            .env("PGHOST", url.host_str().unwrap())
            .env("PGPORT", url.port().unwrap_or(5432).to_string())
            .env("PGUSER", url.username())
            .env("PGPASSWORD", url.password().unwrap_or_default())
            .env("PGDATABASE", database)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{tool}: {status}");
    }

    async fn report(&self, rounds: &[Round]) {
        let row = self
            .admin
            .query_one("select pg_database_size(current_database())::float8", &[])
            .await
            .unwrap();
        let size: f64 = row.get(0);
        println!(
            "\na database of {:.2} GB: median of {} rounds",
            size / 1e9,
            rounds.len()
        );
        let of = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of).collect());
        let most = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
        println!(
            "  pg_dump -Fc               {:>7.1} s {:>8.1} MB",
            of(&|round| round.dumped),
            of(&|round| round.dump_bytes / 1e6)
        );
        println!(
            "  backup with fingerprints  {:>7.1} s {:>8.1} MB: {:.2} of the time, {:.2} of the size",
            of(&|round| round.backed_up),
            of(&|round| round.backup_bytes / 1e6),
            of(&|round| round.backed_up / round.dumped),
            of(&|round| round.backup_bytes / round.dump_bytes)
        );
        println!(
            "    and read back           {:>7.1} s",
            of(&|round| round.read_back)
        );
        println!(
            "  pg_restore -j2            {:>7.1} s",
            of(&|round| round.restored)
        );
        println!(
            "  drill                     {:>7.1} s: {:.2} of the time (restored in {:.1} s, compared in {:.1} s)",
            of(&|round| round.drill),
            of(&|round| round.drill / round.restored),
            of(&|round| round.drill_restored),
            of(&|round| round.drill_compared)
        );
        println!(
            "  most memory               {:>7.0} MB backing up, {:.0} MB proving",
            most(|round| round.backup_memory),
            most(|round| round.drill_memory)
        );
    }
}

/// Samples that walk, with two decimals, and ratings with a comment now and then.
async fn fill(admin: &Client, rows: i64) {
    // What triggers do while rows come in is not what is measured.
    let ready = "set session_replication_role = replica; set synchronous_commit = off";
    admin.batch_execute(ready).await.unwrap();
    for day in 1..=DAYS {
        let name = admin
            .query_one(
                "select 'system_metrics_' || to_char((now() at time zone 'UTC')::date - $1::int4, 'YYYYMMDD') as name,
                        metric_make_day((now() at time zone 'UTC')::date - $1::int4, now())",
                &[&day],
            )
            .await
            .unwrap();
        let sql = format!(
            "insert into {} (series_id, sampled_at, value)
             select s, (now() at time zone 'UTC')::date::timestamp at time zone 'UTC' - {day} * interval '1 day'
                       + n * interval '1 day' / {count},
                    round((100 + 30 * sin(n / 13750.98) + random())::numeric, 2)::float8
             from generate_series(0, {count} - 1) as n, generate_series(1, 20) as s",
            name.get::<_, String>(0),
            count = rows / i64::from(DAYS),
        );
        admin.batch_execute(&sql).await.unwrap();
    }
    let ratings = format!(
        "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, comment, commented_at, created_at, updated_at)
         select gen_random_uuid(), 'insight-' || n % 50000, 'user-' || n, n % 5 + 1, at,
                case when n % 4 = 0 then 'what was said of it, ' || md5(n::text) end, case when n % 4 = 0 then at end, at, at
         from generate_series(1, {rows}) as n, lateral (select now() - n * interval '1 s' as at) as t"
    );
    admin.batch_execute(&ratings).await.unwrap();
    admin.batch_execute("vacuum analyze").await.unwrap();
    admin.batch_execute("checkpoint").await.unwrap();
    admin
        .batch_execute("reset session_replication_role")
        .await
        .unwrap();
}

fn sync(file: &Path) {
    File::open(file).unwrap().sync_all().unwrap();
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Lets the most memory be counted anew.
fn forget_memory() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process had resident, in MB.
fn most_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1e3
}
