//! `utxoiq-store retention`: what leaves the database and cold storage, over the connection of the role that archives.

mod hold;
pub mod progress;
mod show;

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, Utc};
use utxoiq_store::{Store, retention::Report};

use crate::{
    Context,
    operator::actor,
    output::{note, outln},
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what a run would do, and why; nothing is changed
    Plan {
        /// On this day (2027-03-01) or at this time (RFC 3339), with what is there now
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Archive and delete what is due; on a terminal only shown, unless --yes is given
    Run {
        /// Only show what would be done
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// Do it
        #[arg(long)]
        yes: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the latest runs and what they did
    Status {
        /// How many
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=1_000))]
        limit: i64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep what is not to leave, whatever its age
    #[command(subcommand)]
    Hold(hold::Command),
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.config)?;
    match command {
        Command::Plan { as_of, json } => {
            let today = match as_of {
                Some(text) => day_of(&text)?,
                None => store.now().date_naive(),
            };
            plan(&store, today, json).await?;
        }
        Command::Run { dry_run, yes, json } => {
            let shows = dry_run || (!yes && std::io::stdin().is_terminal());
            if shows {
                plan(&store, store.now().date_naive(), json).await?;
                if !dry_run {
                    note("nothing was done: `retention run --yes` does it");
                }
                return Ok(ExitCode::SUCCESS);
            }
            return carry_out(&store, json).await;
        }
        Command::Status { limit, json } => {
            let runs = store.retention()?.runs(limit).await?;
            if json {
                outln!("{}", serde_json::to_string_pretty(&runs)?);
            } else {
                show::runs(&runs)?;
            }
        }
        Command::Hold(command) => hold::run(command, &store).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn plan(store: &Store, today: NaiveDate, json: bool) -> anyhow::Result<()> {
    let plan = store.retention()?.plan(today).await?;
    if json {
        outln!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(());
    }
    show::plan(&plan)
}

async fn carry_out(store: &Store, json: bool) -> anyhow::Result<ExitCode> {
    let (events, progress) = progress::start();
    let retention = store.retention()?.watched_by(events);
    let ran = retention.run(store.now(), &actor()).await;
    drop(retention);
    progress.finish().await;
    let report: Report = ran?;
    if json {
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show::report(&report)?;
    }
    Ok(if report.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A day, or the day of a time.
fn day_of(text: &str) -> anyhow::Result<NaiveDate> {
    if let Ok(day) = text.parse() {
        return Ok(day);
    }
    let time: DateTime<Utc> = text.parse().with_context(|| {
        format!("{text:?} is neither a day (2027-03-01) nor a time (2027-03-01T02:00:00Z)")
    })?;
    Ok(time.date_naive())
}
