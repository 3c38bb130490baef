//! `utxoiq-store backfill`: start, follow, steer and work on jobs, through the HTTP API.

mod command;
mod run;
mod show;
mod watch;

use std::process::ExitCode;

use serde_json::Value;
use utxoiq_store_server::api::backfill::wire;
use uuid::Uuid;

use crate::output::{out, outln};
use crate::{
    Context,
    client::{Api, Connection},
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Start a job
    Start(Start),
    /// List jobs, newest first
    List(List),
    /// Show a job with its ledger, attempts and errors
    Show(Named),
    /// Pause a job: workers finish what they are at and wait
    Pause(Named),
    /// Resume a paused or failed job, and list what is missing
    Resume(Named),
    /// Cancel a job for good
    Cancel(Named),
    /// List the blocks that are missing
    Gaps(Named),
    /// Follow a job until it ends
    Watch(watch::Args),
    /// Work on a job: run a command for each missing chunk of blocks
    Run(run::Args),
}

/// Which blocks of which type.
#[derive(Debug, Clone, clap::Args)]
pub struct Work {
    /// What kind of work it is
    #[arg(long = "type", value_name = "TYPE")]
    job_type: String,
    /// The first block
    #[arg(long, value_name = "BLOCK")]
    from: i64,
    /// The last block, included
    #[arg(long, value_name = "BLOCK")]
    to: i64,
    /// Who starts it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Work {
    fn body(&self) -> wire::Start {
        wire::Start {
            job_type: self.job_type.clone(),
            start_block: self.from,
            end_block: self.to,
            created_by: self.by.clone(),
        }
    }
}

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub struct Start {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    work: Work,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    connection: Connection,
    /// Only jobs of this status
    #[arg(long, value_parser = ["running", "paused", "completed", "failed"])]
    status: Option<String>,
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=100))]
    limit: i64,
    /// How many to skip
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of the commands that name one job.
#[derive(Debug, clap::Args)]
pub struct Named {
    #[command(flatten)]
    connection: Connection,
    /// The job's id
    id: Uuid,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand.
pub async fn run(command: Command, _context: Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Start(args) => start(args).await?,
        Command::List(args) => list(args).await?,
        Command::Show(args) => {
            let details: wire::DetailsAnswer = get(&args, "details").await?;
            print(args.json, &details, || show::details(&details))?;
        }
        Command::Gaps(args) => {
            let gaps: wire::Gaps = get(&args, "gaps").await?;
            print(args.json, &gaps, || show::gaps(&gaps.missing))?;
        }
        Command::Pause(args) => steer(&args, "pause").await?,
        Command::Cancel(args) => steer(&args, "cancel").await?,
        Command::Resume(args) => {
            let resumed: wire::Resumed = post(&args, "resume").await?;
            print(args.json, &resumed, || {
                format!(
                    "{}{}",
                    show::job(&resumed.job),
                    show::gaps(&resumed.missing)
                )
            })?;
        }
        Command::Watch(args) => return watch::run(args).await,
        Command::Run(args) => return run::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(args: Start) -> anyhow::Result<()> {
    let api = Api::connect(&args.connection)?;
    let job: wire::Job = api
        .post("monitoring/backfill/start", &args.work.body())
        .await?;
    print(args.json, &job, || show::jobs(std::slice::from_ref(&job)))
}

async fn list(args: List) -> anyhow::Result<()> {
    let api = Api::connect(&args.connection)?;
    let mut query = vec![
        ("limit", args.limit.to_string()),
        ("offset", args.offset.to_string()),
    ];
    query.extend(args.status.map(|status| ("status", status)));
    query.extend(args.job_type.map(|job_type| ("job_type", job_type)));
    let jobs: Vec<wire::Job> = api.get("monitoring/backfill/status", &query).await?;
    print(args.json, &jobs, || show::jobs(&jobs))
}

async fn steer(args: &Named, call: &str) -> anyhow::Result<()> {
    let job: wire::JobState = post(args, call).await?;
    print(args.json, &job, || show::job(&job))
}

async fn get<T: serde::de::DeserializeOwned>(args: &Named, call: &str) -> anyhow::Result<T> {
    Ok(Api::connect(&args.connection)?
        .get(&format!("monitoring/backfill/{}/{call}", args.id), &[])
        .await?)
}

async fn post<T: serde::de::DeserializeOwned>(args: &Named, call: &str) -> anyhow::Result<T> {
    let path = format!("monitoring/backfill/{}/{call}", args.id);
    Ok(Api::connect(&args.connection)?
        .post(&path, &Value::Object(serde_json::Map::new()))
        .await?)
}

/// Prints an answer, as JSON or for people.
fn print(
    json: bool,
    answer: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    if json {
        outln!("{}", serde_json::to_string_pretty(answer)?);
    } else {
        out!("{}", text());
    }
    Ok(())
}
