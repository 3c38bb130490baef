//! `feedback erase`: everything that a person gave, out of the database and out of the archives, directly on the database.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    process::ExitCode,
};

use utxoiq_store::{Store, retention::Certificate};

use crate::{
    Context,
    operator::actor,
    output::{note, outln},
    retention::progress,
};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It cannot be undone. It can be interrupted and called again: it goes on, and so does the nightly run.
Backups that were made before still have the person's rows, until they are pruned: see docs/operations/retention.md."
)]
pub struct Args {
    /// Whose
    #[arg(long, value_name = "ID")]
    user: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print the certificate as JSON
    #[arg(long)]
    json: bool,
}

/// Erases.
pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    if !args.yes && !is_confirmed(&args.user)? {
        note("nothing was erased");
        return Ok(ExitCode::FAILURE);
    }
    let store = Store::open(context.config)?;
    let (events, progress) = progress::start();
    let retention = store.retention()?.watched_by(events);
    let erased = retention.erase(&args.user, store.now(), &actor()).await;
    drop(retention);
    progress.finish().await;
    let certificate = erased?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&certificate)?);
    } else {
        outln!("{}", text(&certificate));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the person at the terminal has typed the user's id again.
fn is_confirmed(user: &str) -> anyhow::Result<bool> {
    anyhow::ensure!(
        io::stdin().is_terminal(),
        "this cannot be undone: say --yes where nobody can be asked"
    );
    note("this erases all that this person gave, and cannot be undone; type the user's id again:");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']) == user)
}

fn text(certificate: &Certificate) -> String {
    format!(
        "erased: {} rows of feedback and {} of its history from the database, {} from {} archives\n\
         the certificate is entry {} of the audit log, which calls this person {}",
        certificate.feedback_rows,
        certificate.history_rows,
        certificate.archived_rows,
        certificate.archives.len(),
        certificate.audited_as,
        certificate.pseudonym
    )
}
