//! `backfill watch`: a progress bar that follows a job.

use std::{process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use utxoiq_store::{
    backfill::{Job, Status, worker::Coordinator as _},
    error::Kind,
};
use uuid::Uuid;

use crate::{
    client::{Api, Connection},
    output::{self, note, plain},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The job's id; the newest job where it is not given
    id: Option<Uuid>,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    every: f64,
    /// Print JSON: the job as it ended
    #[arg(long)]
    json: bool,
}

/// Follows a job until it ends. Exits with 0 when it is completed, else with 1.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let every = Duration::try_from_secs_f64(args.every)
        .ok()
        .filter(|every| (0.1..=3_600.0).contains(&every.as_secs_f64()))
        .ok_or_else(|| anyhow::anyhow!("--every must lie between 0.1 and 3600 seconds"))?;
    let api = Api::connect(&args.connection)?;
    let id = match args.id {
        Some(id) => id,
        None => newest(&api).await?,
    };
    let bar = Progress::new();
    loop {
        match api.job(id).await {
            Ok(Some(job)) => {
                bar.show(&job);
                if !job.status.is_active() {
                    if args.json {
                        print_json(&api, id).await?;
                    }
                    return Ok(bar.end(&job));
                }
            }
            Ok(None) => anyhow::bail!("backfill job {id} not found"),
            Err(error) if error.kind() == Kind::Unavailable => bar.say(error.message()),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(every).await;
    }
}

/// Prints a job as the service shows it.
pub async fn print_json(api: &Api, id: Uuid) -> anyhow::Result<()> {
    let job: Value = api.get(&format!("monitoring/backfill/{id}"), &[]).await?;
    output::json(&job)
}

async fn newest(api: &Api) -> anyhow::Result<Uuid> {
    let jobs: Vec<utxoiq_store_server::api::backfill::wire::Job> = api
        .get("monitoring/backfill/status", &[("limit", "1".to_owned())])
        .await?;
    jobs.first()
        .map(|job| job.id)
        .ok_or_else(|| anyhow::anyhow!("there are no jobs; utxoiq-store backfill start makes one"))
}

/// The bar on a terminal; elsewhere a line now and then.
pub struct Progress {
    bar: ProgressBar,
    on_terminal: bool,
    last_line: std::cell::Cell<Option<(std::time::Instant, Status)>>,
}

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let on_terminal = !bar.is_hidden();
        let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len} blocks  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        bar.set_style(style);
        Self {
            bar,
            on_terminal,
            last_line: std::cell::Cell::new(None),
        }
    }

    /// Shows where a job stands.
    pub fn show(&self, job: &Job) {
        let total = u64::try_from(job.blocks.count()).unwrap_or(0);
        self.bar.set_length(total);
        self.bar
            .set_prefix(format!("{} {}", plain(&job.job_type), job.blocks));
        self.bar
            .set_position(u64::try_from(job.covered_blocks).unwrap_or(0));
        self.bar.set_message(state(job));
        let due = self
            .last_line
            .get()
            .is_none_or(|(at, status)| at.elapsed() >= LINE_EVERY || status != job.status);
        if !self.on_terminal && due {
            self.last_line
                .set(Some((std::time::Instant::now(), job.status)));
            self.say(&format!(
                "{}/{} blocks, {}",
                job.covered_blocks,
                total,
                state(job)
            ));
        }
    }

    /// Adds finished blocks that the job's next reading will confirm.
    pub fn add(&self, blocks: i64) {
        self.bar.inc(u64::try_from(blocks).unwrap_or(0));
    }

    /// Prints a line beside the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| note(line));
    }

    /// Prints the job's end, and gives the exit code for it.
    pub fn end(&self, job: &Job) -> ExitCode {
        self.bar.finish_and_clear();
        let error = job
            .error_message
            .as_deref()
            .map(|error| format!(": {}", plain(error)))
            .unwrap_or_default();
        self.say(&format!(
            "job {} {}, {} of {} blocks{error}",
            job.id,
            job.status,
            job.covered_blocks,
            job.blocks.count()
        ));
        if job.status == Status::Completed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn state(job: &Job) -> String {
    let expected = job
        .estimated_completion
        .map(|at| format!(", expected {}", at.format("%Y-%m-%d %H:%M:%SZ")))
        .unwrap_or_default();
    format!("{} {}%{expected}", job.status, job.progress_percentage)
}
