//! `utxoiq-store openapi`: the document that `/openapi.json` serves and the repository keeps.

use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[allow(clippy::print_stdout)] // the answer
#[allow(clippy::unnecessary_wraps)] // as every subcommand
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    print!("{}", utxoiq_store_server::openapi::json());
    Ok(ExitCode::SUCCESS)
}
