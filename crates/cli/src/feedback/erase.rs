//! `feedback erase`: everything that a person gave, out of the database and out of the archives, directly on the database.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    process::ExitCode,
};

use utxoiq_store::{Store, retention::Certificate};

use crate::{
    Context,
    operator::actor,
    output::{note, outln, plain},
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
    #[arg(long, value_name = "ID", required_unless_present = "pseudonym")]
    user: Option<String>,
    /// Whose, as the audit log calls that person: to repeat an erasure on a database that was restored
    #[arg(long, conflicts_with = "user")]
    pseudonym: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print the certificate as JSON
    #[arg(long)]
    json: bool,
}

/// Erases.
pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.config)?;
    let user = match (args.user, &args.pseudonym) {
        (Some(user), _) => user,
        (None, Some(pseudonym)) => {
            let Some(user) = store.retention()?.user_of(pseudonym).await? else {
                if args.json {
                    outln!("null");
                }
                note(
                    "nobody of that pseudonym has feedback in the database: nothing is to be erased",
                );
                return Ok(ExitCode::SUCCESS);
            };
            user
        }
        (None, None) => anyhow::bail!("say whose: --user or --pseudonym"),
    };
    if !args.yes && !is_confirmed(&user)? {
        note("nothing was erased");
        return Ok(ExitCode::FAILURE);
    }
    let (events, progress) = progress::start();
    let retention = store.retention()?.watched_by(events);
    let erased = retention.erase(&user, store.now(), &actor()).await;
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
    note(format_args!(
        "this erases all that {} gave, and cannot be undone; type that id:",
        plain(user)
    ));
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
