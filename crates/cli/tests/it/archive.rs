//! `utxoiq-store archive` and `feedback erase`, on archives of all datasets; SQL is answered by the real DuckDB.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde_json::Value;
use tempfile::TempDir;
use utxoiq_store::{
    Store,
    clock::{Clock as _, SystemClock},
    config::Loader,
    metrics::{Accept, Batch, NewSample, SeriesName, micros},
};
use utxoiq_store_testkit::postgres::{PgCluster, PgOptions};

use crate::support::{BINARY, PASSWORD};

struct House {
    cluster: PgCluster,
    folder: TempDir,
    /// A day of feedback and jobs in cold storage, and one of samples.
    old: NaiveDate,
    samples: NaiveDate,
}

fn start(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

impl House {
    async fn new() -> Self {
        let today = SystemClock.now().date_naive();
        let house = Self {
            cluster: PgCluster::start(PgOptions::default()).await,
            folder: TempDir::new().unwrap(),
            old: today - Days::new(800),
            samples: today - Days::new(100),
        };
        std::fs::create_dir(house.folder.path().join("cold")).unwrap();
        house.ok(&["init"]);
        let admin = house.admin().await;
        let passwords = format!(
            "alter role utxoiq_app password '{PASSWORD}'; alter role utxoiq_retention password '{PASSWORD}'"
        );
        admin.batch_execute(&passwords).await.unwrap();
        house.ok(&["migrate", "up"]);
        house.fill(&admin).await;
        house.ok(&["retention", "run", "--yes"]);
        house
    }

    async fn fill(&self, admin: &tokio_postgres::Client) {
        let at = start(self.old);
        for n in 0..20_i32 {
            let (insight, user) = (format!("insight-{}", n % 3), format!("user-{}", n % 10));
            let (insight, user) = (format!("{insight}-{}", n / 10), user);
            let rating = i16::try_from(n % 5 + 1).unwrap();
            let sql = "insert into insight_feedback (insight_id, user_id, rating, rated_at, comment, commented_at, created_at, updated_at)
                       values ($1, $2, $3, $4, 'it''s', $4, $4, $4)";
            admin
                .execute(sql, &[&insight, &user, &rating, &at])
                .await
                .unwrap();
        }
        let config = Loader::default()
            .env(self.envs())
            .unwrap()
            .finish()
            .unwrap();
        let store = Store::open(config).unwrap();
        let mut batch = Batch::default();
        let series = batch.series(SeriesName {
            service_name: "api".into(),
            metric_type: "latency".into(),
            unit: "ms".into(),
            labels: BTreeMap::from([("host".to_owned(), "a".to_owned())]),
        });
        for n in 0..500 {
            batch.push(NewSample {
                series,
                at: Some(micros(start(self.samples) + TimeDelta::seconds(n * 60))),
                value: 0.5,
                metadata: (n == 7).then(|| r#"{"n":7}"#.into()),
            });
        }
        let now = start(self.samples) + TimeDelta::hours(9);
        store
            .metrics()
            .record(batch, Accept::Partial, None, now)
            .await
            .unwrap();
        let rolled = "select rolled_before >= now() - interval '2 hours' from metric_rollup_state";
        while !admin
            .query_one(rolled, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {
            store
                .metrics()
                .roll_up(SystemClock.now(), 1_000)
                .await
                .unwrap();
        }
    }

    fn envs(&self) -> Vec<(String, String)> {
        let url = |role: &str| self.cluster.url(role, PASSWORD, "postgres");
        [
            ("DATABASE_URL", url("utxoiq_app")),
            ("REDIS_URL", String::new()),
            (
                "UTXOIQ_STORE_DATABASE__RETENTION_URL",
                url("utxoiq_retention"),
            ),
            (
                "UTXOIQ_STORE_COLD__URL",
                format!("file://{}", self.folder.path().join("cold").display()),
            ),
            (
                "UTXOIQ_STORE_COLD__CACHE_DIR",
                self.cache().display().to_string(),
            ),
            (
                "UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY",
                "a key of at least thirty-two characters".to_owned(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    async fn admin(&self) -> tokio_postgres::Client {
        let url = self.cluster.admin_url("postgres");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    fn run(&self, arguments: &[&str], more: &[(&str, &str)]) -> Output {
        std::process::Command::new(BINARY)
            .args(arguments)
            .envs(self.envs())
            .env("DATABASE_ADMIN_URL", self.cluster.admin_url("postgres"))
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }
}

/// DuckDB's command line, installed once below the target folder.
pub fn duckdb() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("duckdb-cli");
    let program = folder.join("bin/duckdb");
    let run = |program: &Path, arguments: &[&str]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    if run(&program, &["--version"]).is_err() {
        run(
            Path::new("python3"),
            &["-m", "venv", &folder.to_string_lossy()],
        )?;
        let pip = ["-m", "pip", "install", "--quiet", "duckdb-cli"];
        run(&folder.join("bin/python"), &pip)?;
    }
    Ok(program)
}

#[tokio::test]
async fn archives_are_shown_found_restored_and_erased_from_the_command_line() {
    let house = House::new().await;
    let listed = house.json(&["archive", "list", "--json"]);
    let archives = listed["archives"].as_array().unwrap();
    assert_eq!(archives.len(), 3, "{listed}");
    assert!(
        house
            .ok(&["archive", "list", "--dataset", "metrics"])
            .contains(&house.samples.to_string())
    );
    let id = archives[0]["id"].as_str().unwrap();
    assert!(
        house
            .ok(&["archive", "show", id])
            .contains("content sha256")
    );
    assert_eq!(
        house.json(&["archive", "show", id, "--json"])["manifest"]["rows"],
        20
    );
    let (old, samples) = (house.old.to_string(), house.samples.to_string());
    let is = house.json(&["archive", "where-is", &old, "--json"]);
    let places: Vec<&str> = is
        .as_array()
        .unwrap()
        .iter()
        .map(|is| is["place"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["never", "never", "cold", "cold"]);
    assert!(
        house
            .ok(&["archive", "where-is", &samples])
            .contains("drop")
    );
    assert!(
        house
            .ok(&["archive", "verify"])
            .contains("all is as it was recorded")
    );
    let restored = house.json(&[
        "archive",
        "restore",
        "--dataset",
        "metrics",
        "--day",
        &samples,
        "--reason",
        "x",
        "--json",
    ]);
    assert_eq!(restored["rows"], 500);
    let certificate = house.run(&["feedback", "erase", "--user", "user-3"], &[]);
    assert!(!certificate.status.success(), "nobody was asked");
    let certificate = house.json(&["feedback", "erase", "--user", "user-3", "--yes", "--json"]);
    assert_eq!(
        (&certificate["archived_rows"], &certificate["feedback_rows"]),
        (&6.into(), &0.into())
    );
    let object = house.folder.path().join("cold").join(
        house.json(&["archive", "list", "--state", "archived", "--json"])["archives"][0]["object"]
            .as_str()
            .unwrap(),
    );
    std::fs::write(object, "x").unwrap();
    let damaged = house.run(&["archive", "verify"], &[]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&damaged.stdout).contains("damaged_object"));
}

#[tokio::test]
async fn archives_are_asked_with_sql_that_can_do_nothing_but_ask() {
    let program = match duckdb() {
        Ok(program) => program,
        Err(why) => {
            println!("SKIPPED, for want of DuckDB: {why}");
            return;
        }
    };
    let house = House::new().await;
    let named = program.to_string_lossy().into_owned();
    let ask = |format: &str, more: &[&str], sql: &str| {
        let arguments = [&["archive", "query", "--format", format][..], more, &[sql]].concat();
        let output = house.run(&arguments, &[("DUCKDB_BIN", &named)]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (fine, answer, said) = ask(
        "csv",
        &[],
        "select (select count(*) from metrics), (select count(*) from feedback), (select count(*) from feedback_history), (select count(*) from backfill_jobs)",
    );
    assert!(fine, "{said}");
    assert!(answer.trim().ends_with("500,20,40,0"), "{answer}");
    let sql = "select day, service_name, max(sampled_at) as last, sum(value) as total, max(metadata) as note from metrics group by all";
    let (fine, answer, said) = ask("json", &[], sql);
    assert!(fine, "{said}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer[0]["day"], house.samples.to_string());
    assert_eq!(
        (&answer[0]["service_name"], &answer[0]["total"]),
        (&"api".into(), &250.0.into())
    );
    assert!(
        answer[0]["last"].as_str().unwrap().contains("08:19:00+00"),
        "{answer}"
    );
    // What does not concern the days is empty, with its columns.
    let old = house.old.to_string();
    let empty = "select column_name, column_type from (describe backfill_jobs) where column_name in ('id', 'day', 'ended_at') order by 1";
    let (fine, answer, said) = ask("csv", &["--to", &old], empty);
    assert!(fine && said.contains("nothing is archived"), "{said}");
    assert!(
        answer.contains("day,DATE")
            && answer.contains("id,UUID")
            && answer.contains("ended_at,TIMESTAMP WITH TIME ZONE"),
        "{answer}"
    );
    let outside = house.path("outside.csv");
    let kept = house.cache();
    for sql in [
        format!("copy feedback to '{outside}'"),
        "install httpfs".into(),
        "load httpfs".into(),
        format!("attach '{outside}'"),
        "select * from read_text('/etc/passwd')".into(),
        "select * from '/etc/passwd'".into(),
        "select * from glob('/etc/*')".into(),
        "select * from read_csv('http://127.0.0.1:9/x')".into(),
        "select getenv('HOME')".into(),
        format!("select 1; copy feedback to '{outside}'"),
        format!("select 1'); copy feedback to '{outside}'; select ('1"),
        format!("1\n.shell touch {outside}\n"),
        format!(".shell touch {outside}"),
        format!(".once {outside}"),
        "set enable_external_access = true".into(),
        "set memory_limit = '100GB'".into(),
        "create table t as select 1".into(),
        format!("copy metrics to '{}' (format parquet)", kept.display()),
        "pragma database_list".into(),
    ] {
        let (fine, answer, said) = ask("csv", &[], &sql);
        assert!(!fine, "{sql} was answered: {answer}");
        assert!(
            !answer.contains("root:") && !said.contains("root:"),
            "{sql}: {said}"
        );
        assert!(!Path::new(&outside).exists(), "{sql}");
    }
    // A question without an end is ended.
    let (fine, _, said) = ask(
        "csv",
        &["--timeout", "1"],
        "select sum(a.range * b.range) from range(10000000) a, range(10000000) b",
    );
    assert!(!fine && said.contains("no answer within 1 s"), "{said}");
    // Of people nothing is left on this machine; samples stay in the cache.
    let left: Vec<String> = std::fs::read_dir(house.cache())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let none = house.run(
        &["archive", "query", "select 1"],
        &[("PATH", "/nowhere"), ("DUCKDB_BIN", "")],
    );
    assert!(String::from_utf8_lossy(&none.stderr).contains("pip install duckdb-cli"));
}

impl House {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}
