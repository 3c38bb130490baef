//! `utxoiq-store backup`: making, showing, verifying and removing backups; proving and restoring them.

mod compared;
mod drill;
mod progress;
pub mod restore;
mod show;

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::json;
use utxoiq_store::{
    Store,
    backup::{Backup, Backups, KeyPair},
};
use uuid::Uuid;

use crate::{
    Context,
    operator::actor,
    output::{note, outln},
    target::or_interrupted,
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key for backups: its public half goes into the settings, its secret half to a safe place
    Keygen {
        /// Write the secret key into this file, readable by its owner only, instead of showing it
        #[arg(long, short, value_name = "FILE")]
        output: Option<std::path::PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a backup now, read it back, and copy it to the second store
    Create {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the latest backups
    List {
        /// How many
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        /// Also runs that failed, and backups that were removed
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one backup and its manifest
    Show {
        /// Its id, or `newest`
        backup: Which,
        /// The manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read a stored backup back and compare every byte
    Verify {
        /// Its id, `newest`, or `all` that are kept
        #[arg(default_value = "newest")]
        backup: Which,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove backups whose time is over; only shown unless --yes is given
    Prune {
        /// Do it
        #[arg(long)]
        yes: bool,
        /// At this time (RFC 3339); shows only
        #[arg(long, value_name = "TIME", conflicts_with = "yes")]
        as_of: Option<DateTime<Utc>>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Restore a backup into a database of its own, compare it with what was backed up, and drop it again; needs the drill key
    Drill {
        /// Its id, or `newest`: of those that are verified and not proved yet, if there are any
        #[arg(default_value = "newest")]
        backup: Which,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the latest drills and what came of them
    Proofs {
        /// How many
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=1_000))]
        limit: i64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Restore a backup into an empty database and compare it with what was backed up
    Restore(restore::Args),
    /// Take in backups that lie in the store and that the database does not know: after a restore
    Adopt {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which backup.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    /// The newest that is stored.
    Newest,
    /// All that are stored.
    All,
    /// This one.
    Id(Uuid),
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "newest" => Ok(Self::Newest),
            "all" => Ok(Self::All),
            id => Uuid::try_parse(id)
                .map(Self::Id)
                .map_err(|_| "name the id of a backup, or `newest`".to_owned()),
        }
    }
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    if let Command::Restore(args) = command {
        return restore::run(args, context).await;
    }
    let store = Store::open(context.config)?;
    let backups = store.backups();
    match command {
        Command::Create { json } => or_interrupted(Box::pin(create(&store, json))).await,
        Command::List { limit, all, json } => list(&backups, limit, all, json).await,
        Command::Show { backup, json } => show_one(&backups, backup, json).await,
        Command::Verify { backup, json } => or_interrupted(verify(&backups, backup, json)).await,
        Command::Prune { yes, as_of, json } => {
            prune(&store, yes, as_of.unwrap_or_else(|| store.now()), json).await
        }
        Command::Adopt { json } => adopt(&store, json).await,
        Command::Drill { backup, json } => {
            or_interrupted(Box::pin(drill::drill(&store, backup, json))).await
        }
        Command::Proofs { limit, json } => drill::proofs(&store, limit, json).await,
        Command::Keygen { output, json } => keygen(output, json),
        Command::Restore(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Makes a key. Needs no settings.
pub fn keygen(output: Option<std::path::PathBuf>, as_json: bool) -> anyhow::Result<ExitCode> {
    let pair = KeyPair::generate();
    let text = format!(
        "# public key: {}\n{}\n",
        pair.recipient,
        pair.identity.expose()
    );
    match output {
        None if as_json => crate::output::json(&json!({
            "recipient": pair.recipient, "identity": pair.identity.expose(), "file": null,
        }))?,
        None => outln!("{}", text.trim_end()),
        Some(path) => {
            // Made for its owner only, and never over another key.
            let mut target = crate::target::Target::new(&path, false)?;
            target.write(text.as_bytes())?;
            let path = target.finish()?;
            if as_json {
                crate::output::json(&json!({
                    "recipient": pair.recipient, "identity": null, "file": path,
                }))?;
            } else {
                outln!("{}", pair.recipient);
            }
            note(format_args!("the secret key is in {}", path.display()));
        }
    }
    note(
        "the public key goes into backup.recovery_recipient or backup.drill_recipient; without the secret one nobody can read a backup",
    );
    Ok(ExitCode::SUCCESS)
}

async fn create(store: &Store, json: bool) -> anyhow::Result<ExitCode> {
    let shown = progress::start();
    let made = store
        .backups()
        .make(None, &actor(), store.now(), &shown.progress)
        .await;
    shown.finish();
    let backup = made?;
    if json {
        outln!("{}", serde_json::to_string_pretty(&show::as_json(&backup))?);
    } else {
        show::one(&backup)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(
    backups: &Backups<'_>,
    limit: i64,
    all: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let found = backups.list(all, limit, 0).await?;
    if json {
        for backup in &found {
            outln!("{}", show::as_json(backup));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        note("there are no backups: `backup create` makes one");
    } else {
        show::list(&found)?;
    }
    if let Ok(inventory) = backups.inventory().await {
        show::inventory(&inventory);
    }
    Ok(ExitCode::SUCCESS)
}

/// The backups that are meant.
async fn chosen(backups: &Backups<'_>, which: Which) -> anyhow::Result<Vec<Backup>> {
    const MOST: i64 = 10_000;
    let found = match which {
        Which::Id(id) => backups.get(id).await?.into_iter().collect(),
        Which::Newest | Which::All => {
            let mut stored = backups.list(false, MOST, 0).await?;
            stored.retain(|backup| backup.stored_at.is_some());
            if matches!(which, Which::Newest) {
                stored.truncate(1);
            }
            stored
        }
    };
    if found.is_empty() {
        anyhow::bail!("there is no such backup: `backup list` shows them");
    }
    Ok(found)
}

async fn show_one(backups: &Backups<'_>, which: Which, json: bool) -> anyhow::Result<ExitCode> {
    for backup in chosen(backups, which).await? {
        let manifest = backups.manifest(&backup).await;
        if json {
            outln!("{}", serde_json::to_string_pretty(&manifest?)?);
            continue;
        }
        show::one(&backup)?;
        match manifest {
            Ok(manifest) => show::manifest(&manifest)?,
            Err(error) => note(format_args!("its manifest: {error}")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(backups: &Backups<'_>, which: Which, as_json: bool) -> anyhow::Result<ExitCode> {
    let (mut code, mut told) = (ExitCode::SUCCESS, Vec::new());
    for backup in chosen(backups, which).await? {
        let shown = progress::start();
        let verified = backups.verify(backup.id, &shown.progress).await;
        shown.finish();
        if as_json {
            let error = verified.as_ref().err().map(ToString::to_string);
            told.push(json!({ "id": backup.id, "verified": verified.is_ok(), "error": error }));
            if verified.is_err() {
                code = ExitCode::FAILURE;
            }
            continue;
        }
        match verified {
            Ok(()) => outln!("{}: every byte is what was written", backup.id),
            Err(error) => {
                outln!("{}: {error}", backup.id);
                code = ExitCode::FAILURE;
            }
        }
    }
    if as_json {
        crate::output::json(&told)?;
    }
    Ok(code)
}

async fn prune(
    store: &Store,
    yes: bool,
    now: DateTime<Utc>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let backups = store.backups();
    let plan = if yes {
        backups.prune(now, &actor()).await?
    } else {
        backups.plan_prune(now).await?
    };
    if as_json {
        let plan = plan.iter().map(|one| {
            json!({
                "id": one.backup.id,
                "started_at": one.backup.started_at,
                "kept": one.verdict.keep,
                "reason": one.verdict.to_string(),
            })
        });
        let plan: Vec<_> = plan.collect();
        crate::output::json(&json!({ "removed": yes, "backups": plan }))?;
    } else {
        show::plan(&plan)?;
    }
    if !yes {
        note("nothing was removed: `backup prune --yes` does it");
    }
    Ok(ExitCode::SUCCESS)
}

async fn adopt(store: &Store, as_json: bool) -> anyhow::Result<ExitCode> {
    let backups = store.backups();
    // The backup that a database was restored from is there as one that is being made.
    let (settled, _) = backups.settle(store.now()).await?;
    let adopted = backups
        .adopt(&actor())
        .await
        .context("not all backups could be taken in")?;
    if as_json {
        crate::output::json(&json!({ "adopted": adopted, "settled": settled }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for id in &adopted {
        outln!("{id}");
    }
    note(format_args!(
        "{} backups were taken in; `backup verify all` reads them back",
        adopted.len() + settled
    ));
    Ok(ExitCode::SUCCESS)
}
