//! `utxoiq-store openapi`: the document that `/openapi.json` serves and the repository keeps.

use std::process::ExitCode;

use crate::output::out;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// JSON, as in any case
    #[arg(long)]
    json: bool,
}

#[allow(clippy::unnecessary_wraps)] // as every subcommand
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    out!("{}", utxoiq_store_server::openapi::json());
    Ok(ExitCode::SUCCESS)
}
