//! `utxoiq-store config`: what can be set, and whether what is set is right.

use std::process::ExitCode;

use serde_json::json;
use utxoiq_store::config::{Config, SETTINGS};

use crate::Context;
use crate::output::{self, out, outln};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print every setting with its default and its reason, as a file to start from
    Example {
        /// As JSON: each setting with its default
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration in force and say whether the service would start with it
    Check {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: &Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Example { json: true } => {
            let settings = SETTINGS.iter().map(|setting| {
                json!({
                    "section": setting.section,
                    "key": setting.key,
                    "default": setting.default,
                    "doc": setting.doc.trim(),
                })
            });
            output::json(&settings.collect::<Vec<_>>())?;
        }
        Command::Example { json: false } => out!("{}", Config::example()),
        Command::Check { json } => {
            context.config.database.url()?;
            if *json {
                output::json(&json!({ "valid": true }))?;
            } else {
                outln!("the configuration is valid");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
