//! The same SQL by pgbench, PostgreSQL's own C client: what the machine and the statement allow.
//!
//! Its transactions are taken from its log, so that its warm-up is left out and its percentiles are known.

use std::{env, fmt::Display, fs, path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::process::Command;
use url::Url;
use utxoiq_store::db::Statement;

use super::{Options, driver::Sample};

/// A statement for pgbench to repeat.
pub struct Script {
    /// The file's text.
    text: String,
    /// Variables with a fixed value.
    defines: Vec<(&'static str, String)>,
}

impl Script {
    /// The statement with pgbench's expressions in the place of its parameters, after `\set` lines of its own. Variables
    /// are bound as parameters, as texts of unknown type: hence the casts.
    pub fn new(statement: &Statement, set: &str, parameters: &[&str]) -> Self {
        assert_eq!(statement.params.len(), parameters.len());
        let mut sql = statement.sql.to_owned();
        // From the last, lest $1 be found in $10.
        for (number, parameter) in parameters.iter().enumerate().rev() {
            let typed = format!("{parameter}::{}", statement.params[number].name());
            sql = sql.replace(&format!("${}", number + 1), &typed);
        }
        Self {
            text: format!("{set}\n{sql};\n"),
            defines: Vec::new(),
        }
    }

    /// Gives a variable its value, or its first one.
    pub fn define(mut self, name: &'static str, value: impl Display) -> Self {
        self.defines.push((name, format!("{value}")));
        self
    }
}

/// Where pgbench connects to, and with which settings.
pub struct Pgbench {
    /// The address, with the role that serves.
    pub url: String,
    /// The settings that the store's own connections have, as command line options.
    pub options: String,
}

impl Pgbench {
    /// Runs a script with as many clients as ours, prepared, on as many threads as there are processors.
    pub async fn run(&self, options: &Options, script: &Script) -> Sample {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let file = folder.path().join("script.sql");
        fs::write(&file, &script.text).expect("the script can be written");
        let output = self
            .command(options, script, folder.path())
            .arg("--file")
            .arg(&file)
            .output()
            .await
            .expect("pgbench runs: its folder is PG_BIN or on PATH");
        assert!(
            output.status.success(),
            "pgbench failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        read_logs(options, folder.path())
    }

    fn command(&self, options: &Options, script: &Script, folder: &Path) -> Command {
        let program = env::var("PG_BIN").map_or("pgbench".into(), |bin| format!("{bin}/pgbench"));
        let url = Url::parse(&self.url).expect("the address was used before");
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let seconds = (options.warm_up + options.measured).as_secs();
        let mut command = Command::new(program);
        command
            .args(["--no-vacuum", "--protocol=prepared", "--log"])
            .arg(format!("--log-prefix={}", folder.join("log").display()))
            .arg(format!("--client={}", options.clients))
            .arg(format!("--jobs={}", threads.min(options.clients)))
            .arg(format!("--time={seconds}"))
            .env("PGHOST", url.host_str().unwrap_or_default())
            .env("PGPORT", url.port().unwrap_or(5432).to_string())
            .env("PGUSER", url.username())
            .env("PGPASSWORD", url.password().unwrap_or_default())
            .env("PGDATABASE", url.path().trim_start_matches('/'))
            .env("PGOPTIONS", &self.options)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for (name, value) in &script.defines {
            command.arg(format!("--define={name}={value}"));
        }
        command
    }
}

/// One transaction of the log.
struct Logged {
    /// When it ended, in microseconds.
    ended: u64,
    /// How long it took, in microseconds.
    took: u64,
}

/// The transactions that ended in the last `measured` of the run.
fn read_logs(options: &Options, folder: &Path) -> Sample {
    let mut logged = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        // One file for each thread.
        if path.extension().is_some_and(|extension| extension != "sql") {
            let text = fs::read_to_string(&path).expect("the log can be read");
            logged.extend(text.lines().map(read_line));
        }
    }
    let end = logged.iter().map(|one| one.ended).max().unwrap_or(0);
    let length = u64::try_from(options.measured.as_micros()).unwrap_or(u64::MAX);
    let mut latencies = Sample::latencies();
    for one in logged.iter().filter(|one| one.ended + length > end) {
        latencies.saturating_record(one.took);
    }
    Sample::new(latencies, options.measured)
}

/// `client transaction time script epoch microseconds`.
fn read_line(line: &str) -> Logged {
    let number = |field: usize| -> u64 {
        let text = line.split(' ').nth(field);
        text.and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("a transaction of pgbench failed: {line}"))
    };
    Logged {
        ended: number(4) * 1_000_000 + number(5),
        took: number(2),
    }
}
