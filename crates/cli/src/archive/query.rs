//! `archive query`: SQL over the archives, answered by DuckDB's own command line.
//!
//! # What it guarantees
//!
//! * What is asked is what was archived: each object is a copy whose hash was compared with the recorded one, and a view has
//!   exactly the files of archives whose rows are in cold storage now.
//! * The question can only be a question: it is handed to DuckDB as the text of one SELECT (its table function `query`),
//!   which takes neither a second statement nor a command of its shell.
//! * The SELECT reads those files and nothing else: external access is off but for them, no extension is installed or
//!   loaded, and the configuration is locked before the question is read. It gets no environment.
//! * It ends: after `--timeout` it is killed; memory is limited, what does not fit goes to a private folder that is removed.
//! * Copies of what tells of people are there only while the question is answered.

use std::{
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use chrono::NaiveDate;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use utxoiq_store::{
    Store,
    cold::{ColumnKind, Dataset, Fetched},
    retention::{MAX_PAGE, State},
};

use super::Days;
use crate::output::note;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "There is a view for each dataset: metrics, backfill_jobs, feedback and feedback_history, with the columns of its \
                  archives and `day`. Name days to fetch no more than is needed.

Examples:
  utxoiq-store archive query \"select day, count(*) from metrics group by day order by day\"
  utxoiq-store archive query --dataset feedback --from 2025-01-01 --to 2025-02-01 --format csv \\
      \"select insight_id, avg(rating) from feedback group by 1\""
)]
pub struct Args {
    /// One SELECT of DuckDB's SQL
    sql: String,
    #[command(flatten)]
    days: Days,
    /// How the answer is printed
    #[arg(long, default_value = "table", value_parser = ["table", "csv", "json"])]
    format: String,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The most memory that DuckDB takes, such as 500MB
    #[arg(long, default_value = "1GB", value_parser = memory)]
    memory: String,
    /// After how many seconds it is stopped
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

fn memory(text: &str) -> Result<String, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let is_size = !digits.is_empty()
        && digits.len() <= 6
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && ["MB", "GB"].contains(&unit);
    if is_size {
        Ok(text.to_owned())
    } else {
        Err("must be a size such as 500MB or 4GB".to_owned())
    }
}

/// Where DuckDB is.
fn duckdb() -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os("DUCKDB_BIN").filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        anyhow::ensure!(
            named.is_file(),
            "DUCKDB_BIN names {}, which is no file",
            named.display()
        );
        return Ok(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("duckdb"))
        .find(|file| file.is_file())
        .context(
            "there is no duckdb on PATH, which answers the question: the container image has it; elsewhere install DuckDB's \
             command line, for one with `pip install duckdb-cli`, or name it in DUCKDB_BIN",
        )
}

/// A day's files of a dataset.
struct Files {
    dataset: Dataset,
    day: NaiveDate,
    fetched: Vec<Fetched>,
}

pub async fn run(store: &Store, args: Args) -> anyhow::Result<ExitCode> {
    let program = duckdb()?;
    // As long as these are kept, the files stay.
    let files = fetch(store, args.days).await?;
    let folder = tempfile::Builder::new()
        .prefix("utxoiq-store-query-")
        .tempdir()?;
    let script = folder.path().join("query.sql");
    std::fs::write(&script, script_of(&files, folder.path(), &args)?)?;
    let mut command = Command::new(program);
    command
        .args([
            "-batch",
            "-bail",
            "-no-init",
            &format!("-{}", if args.json { "json" } else { &args.format }),
            "-f",
        ])
        .arg(&script)
        .env_clear()
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .process_group(0);
    let mut running = command.spawn().context("duckdb could not be started")?;
    let group = Group::of(&running);
    let time = Duration::from_secs(args.timeout);
    let ended = tokio::time::timeout(time, running.wait()).await;
    drop(group);
    let ended = ended.with_context(|| {
        let seconds = args.timeout;
        format!("no answer within {seconds} s: ask about fewer days, or raise --timeout")
    })?;
    Ok(if ended?.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// DuckDB and what it started: as a package of Python's it is a script that starts the program. All of it ends with this.
struct Group(Option<Pid>);

impl Group {
    fn of(running: &Child) -> Self {
        let id = running.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Where all of it has ended there is no such group.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn fetch(store: &Store, days: Days) -> anyhow::Result<Vec<Files>> {
    let retention = store.retention()?;
    let mut wanted = Vec::new();
    // Detached: on its way out of the database, and read from the archive already.
    for state in [State::Archived, State::Detached] {
        let (filter, mut after) = (days.filter(Some(state)), None);
        loop {
            let page = retention.archives(&filter, MAX_PAGE, after).await?;
            wanted.extend(page.archives);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    wanted.sort_by_key(|archive| (archive.dataset, archive.day, archive.part));
    if wanted.is_empty() {
        note("nothing is archived of these days: the views are empty");
        return Ok(Vec::new());
    }
    let cold = store
        .cold()
        .context("there is no cold store: set cold.url")?;
    let bar = ProgressBar::with_draw_target(
        Some(wanted.len().try_into().unwrap_or(0)),
        ProgressDrawTarget::stderr(),
    );
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} fetching {msg}")
    {
        bar.set_style(style);
    }
    let mut files: Vec<Files> = Vec::new();
    for view in wanted {
        bar.set_message(format!("{} of {}", view.dataset, view.day));
        let archive = retention.archive(view.id).await?;
        let fetched = cold.fetch(&archive.stored()?).await?;
        match files.last_mut() {
            Some(last) if (last.dataset, last.day) == (archive.dataset, archive.day) => {
                last.fetched.push(fetched);
            }
            _ => files.push(Files {
                dataset: archive.dataset,
                day: archive.day,
                fetched: vec![fetched],
            }),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(files)
}

/// What DuckDB is told.
fn script_of(files: &[Files], folder: &Path, args: &Args) -> anyhow::Result<String> {
    let all = files.iter().flat_map(|files| &files.fetched);
    let paths = list_of(all)?;
    let spilled = literal(
        folder
            .join("spilled")
            .to_str()
            .context("a folder that is no UTF-8")?,
    );
    let mut script = format!(
        "set memory_limit = '{}'; set threads = 4; set temp_directory = {spilled};\n\
         set autoinstall_known_extensions = false; set autoload_known_extensions = false;\n\
         set allow_community_extensions = false; set TimeZone = 'UTC';\n\
         set allowed_paths = {paths};\n",
        args.memory
    );
    for dataset in Dataset::ALL {
        script.push_str(&view_of(dataset, files)?);
    }
    script.push_str("set enable_external_access = false;\nset lock_configuration = true;\n");
    let _ = writeln!(script, "from query({});", literal(&args.sql));
    Ok(script)
}

/// The view of a dataset: its days' files, each with its day.
fn view_of(dataset: Dataset, files: &[Files]) -> anyhow::Result<String> {
    let mut view = format!("create view {dataset} as\n{}", empty(dataset));
    for files in files.iter().filter(|files| files.dataset == dataset) {
        let paths = list_of(files.fetched.iter())?;
        let _ = write!(
            view,
            "\nunion all by name select *, date '{}' as day from read_parquet({paths}, hive_partitioning = false)",
            files.day
        );
    }
    view.push_str(";\n");
    Ok(view)
}

/// A SELECT of no rows with the columns of a dataset.
fn empty(dataset: Dataset) -> String {
    let columns = dataset.columns().iter().chain(dataset.names());
    let columns: Vec<String> = columns
        .map(|column| {
            let kind = match column.kind {
                ColumnKind::Int4 => "integer",
                ColumnKind::Int8 => "bigint",
                ColumnKind::Float8 => "double",
                ColumnKind::Time => "timestamptz",
                ColumnKind::Text => "varchar",
                ColumnKind::Uuid => "uuid",
            };
            format!("null::{kind} as {}", column.name)
        })
        .collect();
    format!(
        "select {}, null::date as day where false",
        columns.join(", ")
    )
}

fn list_of<'a>(files: impl Iterator<Item = &'a Fetched>) -> anyhow::Result<String> {
    let paths = files.map(|file| {
        let path = std::path::absolute(file.path())?;
        let path = path.to_str().context("a folder that is no UTF-8")?;
        Ok(literal(path))
    });
    let paths = paths.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(format!("[{}]", paths.join(", ")))
}

/// A text in SQL. It cannot end before its own quote, whatever it says.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
