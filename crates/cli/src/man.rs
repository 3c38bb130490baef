//! `utxoiq-store man`: a manual page for each command.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;
use serde_json::json;

use crate::{
    Cli,
    output::{self, outln},
};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  utxoiq-store man --output ~/.local/share/man/man1 && man utxoiq-store-backfill-run")]
pub struct Args {
    /// The folder to write them into; made where it is not there
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Writes them.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = &args.output;
    let failed = || format!("{} cannot be written", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).with_context(failed)?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("utxoiq-store") {
            pages.push(name);
        }
    }
    pages.sort();
    if args.json {
        output::json(&json!({ "folder": folder, "pages": pages }))?;
    } else {
        outln!("{} pages in {}", pages.len(), folder.display());
    }
    Ok(ExitCode::SUCCESS)
}
