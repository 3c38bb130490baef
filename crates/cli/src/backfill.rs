//! `utxoiq-store backfill`.

use std::process::ExitCode;

use crate::Context;

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {}

#[allow(clippy::unused_async)]
pub async fn run(_command: Command, _context: Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
