//! `utxoiq-store`: the one binary. This file is the composition root: it reads the configuration, starts the log and
//! hands over to the subcommand; each subcommand is one file.

mod alert;
mod archive;
mod audit;
mod backfill;
mod backup;
mod client;
mod completions;
mod config;
mod demo;
mod doctor;
mod feedback;
mod init;
mod log;
mod man;
mod metrics;
mod migrate;
mod openapi;
mod operator;
mod output;
mod reference;
mod retention;
mod schedule;
mod serve;
mod slo;
mod table;
mod target;
mod token;
mod traces;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use utxoiq_store::{
    Kind,
    config::{Config, Loader},
};

use self::output::Colour;

/// Keeps utxoIQ's backfill jobs, feedback and metrics.
#[derive(Debug, Parser)]
#[command(name = "utxoiq-store", version, about, max_term_width = 100)]
struct Cli {
    /// A TOML file with settings; environment variables win over it
    #[arg(long, global = true, env = "UTXOIQ_STORE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP API
    Serve(serve::Args),
    /// Create the database roles, or print the SQL that does
    Init(init::Args),
    /// Apply, roll back, list, write or check migrations
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Create, list and revoke service tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Start, follow, steer and work on backfill jobs, through the HTTP API
    #[command(subcommand)]
    Backfill(backfill::Command),
    /// Show, search, rank, review and export what users think of insights, through the HTTP API
    #[command(subcommand)]
    Feedback(feedback::Command),
    /// Import, show, chart, rank and verify system metrics, through the HTTP API
    #[command(subcommand)]
    Metrics(metrics::Command),
    /// Show what retention would do, do it, and place and release legal holds
    #[command(subcommand)]
    Retention(retention::Command),
    /// List, show, verify, ask and restore archives, and say where a day's rows are
    #[command(subcommand)]
    Archive(archive::Command),
    /// Try whether alerts arrive, list them and take them, directly on the database
    #[command(subcommand)]
    Alert(alert::Command),
    /// List, verify and export the audit log, directly on the database
    #[command(subcommand)]
    Audit(audit::Command),
    /// Make, show, verify, remove, prove and restore backups
    #[command(subcommand)]
    Backup(backup::Command),
    /// Restore a backup into an empty database and compare it with what was backed up
    Restore(backup::restore::Args),
    /// Show and run scheduled tasks
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Fill a fresh store with made-up data, so that there is something to see
    Demo(demo::Args),
    /// Show the acceptance criteria and how they stand; exits 1 where one is missed
    Slo(slo::Args),
    /// Check everything around the store, and say how to mend what is wrong
    Doctor(doctor::Args),
    /// Show the configuration's settings
    #[command(subcommand)]
    Config(config::Command),
    /// Print the OpenAPI document
    Openapi(openapi::Args),
    /// Print a script with which a shell completes commands and options
    Completions(completions::Args),
    /// Write a manual page for each command
    Man(man::Args),
    /// Print the reference of every command, as docs/cli.md has it
    #[command(hide = true)]
    Reference(reference::Args),
}

/// What every subcommand may use.
struct Context {
    config: Config,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        // As for any program whose reader went away.
        Err(error) if output::nobody_reads(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let label = output::painted("error:", Colour::Red, &std::io::stderr());
            output::note(format_args!("{label} {error:#}"));
            if let Some(next) = next(&error) {
                output::note(next);
            }
            ExitCode::FAILURE
        }
    }
}

/// What to do about an error whose cause is not in the command.
fn next(error: &anyhow::Error) -> Option<&'static str> {
    let error = error.downcast_ref::<utxoiq_store::Error>()?;
    let is_about_others = error.is_without_database() || error.kind() == Kind::Unavailable;
    is_about_others
        .then_some("next: `utxoiq-store doctor` looks at everything around the store, and says how to mend what it finds")
}

/// The variables of the environment that are text: what is not is no setting of ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn configuration(file: Option<&std::path::Path>) -> anyhow::Result<Config> {
    let mut loader = Loader::default();
    if let Some(file) = file {
        loader = loader.file(file)?;
    }
    Ok(loader.env(variables())?.finish()?)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // What is about the program itself needs no settings.
    match &cli.command {
        Command::Completions(args) => return completions::run(args),
        Command::Man(args) => return man::run(args),
        Command::Reference(args) => return reference::run(args),
        _ => {}
    }
    // Settings that name a store without keys are refused: whoever makes the keys must not need settings.
    if let Command::Backup(backup::Command::Keygen { output, json }) = cli.command {
        return backup::keygen(output, json);
    }
    let config = match configuration(cli.config.as_deref()) {
        Ok(config) => config,
        Err(error) => match cli.command {
            // That is what it looks for.
            Command::Doctor(args) => return doctor::unreadable(&error, args.json),
            _ => return Err(error),
        },
    };
    let serves = matches!(cli.command, Command::Serve(_));
    let traces = traces::asked();
    log::start(
        &config.log,
        serves,
        traces.as_ref().ok().and_then(Option::as_ref),
    )?;
    let traces = traces.unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        None
    });
    let context = Context { config };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(traces::around(traces, serves, async {
            match cli.command {
                Command::Serve(args) => serve::run(args, context).await,
                Command::Init(args) => init::run(args, context).await,
                Command::Migrate(command) => migrate::run(command, context).await,
                Command::Token(command) => token::run(command, context).await,
                Command::Backfill(command) => backfill::run(command, context).await,
                Command::Feedback(command) => feedback::run(command, context).await,
                Command::Metrics(command) => metrics::run(command).await,
                Command::Retention(command) => retention::run(command, context).await,
                Command::Archive(command) => archive::run(command, context).await,
                Command::Alert(command) => alert::run(command, context).await,
                Command::Audit(command) => audit::run(command, context).await,
                Command::Backup(command) => backup::run(command, context).await,
                Command::Restore(args) => backup::restore::run(args, context).await,
                Command::Schedule(command) => schedule::run(command, context).await,
                Command::Demo(args) => demo::run(args, context).await,
                Command::Slo(args) => slo::run(args, context).await,
                Command::Doctor(args) => doctor::run(args, context).await,
                Command::Config(command) => config::run(&command, &context),
                Command::Openapi(args) => openapi::run(&args),
                // Done above.
                Command::Completions(_) | Command::Man(_) | Command::Reference(_) => {
                    Ok(ExitCode::SUCCESS)
                }
            }
        }))
}
