//! `utxoiq-store config`: what can be set, and whether what is set is right.

use std::process::ExitCode;

use utxoiq_store::config::Config;

use crate::Context;
use crate::output::{out, outln};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print every setting with its default and its reason, as a file to start from
    Example,
    /// Check the configuration in force and say whether the service would start with it
    Check,
}

pub fn run(command: &Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Example => out!("{}", Config::example()),
        Command::Check => {
            context.config.database.url()?;
            outln!("the configuration is valid");
        }
    }
    Ok(ExitCode::SUCCESS)
}
