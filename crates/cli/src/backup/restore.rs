//! `utxoiq-store restore`: a backup into an empty database, and whether it is equal. It asks the object store and that database,
//! and no other: the one that has the history may be what was lost.

use std::{env, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use utxoiq_store::{
    backup::{self, BackupStores, Restore},
    clock::{Clock as _, SystemClock},
    cold::{BackupKey, Bucket, ColdStore},
    config::{Config, Secret},
};

use super::{Which, compared, progress};
use crate::{
    Context,
    operator::actor,
    output::{note, outln},
    target::or_interrupted,
};

/// Where the address is taken from, where no file is named.
const URL: &str = "RESTORE_URL";
/// Where the key is taken from, likewise.
const KEY: &str = "RESTORE_KEY";

/// Arguments. Neither an address nor a key is one: everybody on the machine can read those.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or `newest`
    #[arg(long, default_value = "newest", value_name = "ID")]
    backup: Which,
    /// Which store it is read from
    #[arg(long, value_enum, default_value_t = From::First)]
    from: From,
    /// A file with the address (postgresql://…) of the database to restore into; without it, the variable RESTORE_URL
    #[arg(long, value_name = "FILE")]
    target_file: Option<PathBuf>,
    /// A file with the secret key; without it, the variable RESTORE_KEY
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The SHA-256 that its manifest must have, where it is known from a mail or a log
    #[arg(long, value_name = "HEX")]
    manifest_sha256: Option<String>,
    /// Restore nothing: compare a database that was restored before, and not used since
    #[arg(long)]
    compare_only: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A store of backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// `backup_store`
    First,
    /// `backup_copy`
    Copy,
}

pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    or_interrupted(Box::pin(restore(args, context.config))).await
}

async fn restore(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let bucket = bucket(&config, args.from)?;
    let url = secret(args.target_file, URL, "the database to restore into")?;
    let url = Secret::new(config.database.completed(url.expose()));
    let key = chosen(&bucket, args.backup).await?;
    let identity = if args.compare_only {
        Secret::new("")
    } else {
        secret(args.key_file, KEY, "the secret key of the backup")?
    };
    let cold = ColdStore::open(&config.cold)?;
    let restore = Restore {
        bucket: &bucket,
        key,
        manifest_sha256: args.manifest_sha256.as_deref(),
        identity: &identity,
        settings: &config.backup,
        cold: cold.as_ref(),
    };
    let shown = progress::start();
    if args.compare_only {
        let compared = restore.compare(&url, &shown.progress).await;
        shown.finish();
        return compared::comparison(&compared?, args.json);
    }
    let now = SystemClock.now();
    let restored = restore
        .into_database(&url, &actor(), now, &shown.progress)
        .await;
    shown.finish();
    let restored = restored?;
    let code = compared::restored(&restored, args.json)?;
    if restored.comparison.is_equal() && !args.json {
        outln!("next: docs/operations/restore.md#after-any-restore");
    }
    Ok(code)
}

fn bucket(config: &Config, from: From) -> anyhow::Result<Bucket> {
    let stores = BackupStores::open(config)?;
    match from {
        From::First => stores
            .first
            .context("it is not known where the backups are: set backup_store.url"),
        From::Copy => stores
            .second
            .context("it is not known where the second copies are: set backup_copy.url"),
    }
}

/// The dump's key of the backup that is meant, from what the store lists.
async fn chosen(bucket: &Bucket, which: Which) -> anyhow::Result<BackupKey> {
    let stored = backup::stored(bucket).await?;
    let found = match which {
        Which::Newest => stored.first(),
        Which::Id(id) => stored.iter().find(|key| key.id == id),
        Which::All => bail!("one backup can be restored: name its id, or `newest`"),
    };
    let key = found.copied().with_context(|| match which {
        Which::Id(id) => format!("the store has no manifest of a backup {id}"),
        _ => "the store has no backup".to_owned(),
    })?;
    note(format_args!("restoring {key}"));
    Ok(key)
}

/// A secret from a file, or from a variable of the environment.
fn secret(file: Option<PathBuf>, variable: &str, what: &str) -> anyhow::Result<Secret> {
    let text = match file {
        Some(file) => fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
        None => env::var(variable).ok().with_context(|| {
            format!("{what} is not known: set {variable}, or name a file (--help)")
        })?,
    };
    Ok(Secret::new(text.trim()))
}
