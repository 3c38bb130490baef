//! `utxoiq-store serve`.

use std::process::ExitCode;

use crate::Context;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[allow(clippy::unused_async)]
pub async fn run(_args: Args, _context: Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
