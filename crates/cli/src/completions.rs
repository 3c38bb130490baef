//! `utxoiq-store completions`: scripts with which shells complete.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{Cli, output};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  utxoiq-store completions bash > ~/.local/share/bash-completion/completions/utxoiq-store
  utxoiq-store completions zsh > ~/.zfunc/_utxoiq-store
  utxoiq-store completions fish > ~/.config/fish/completions/utxoiq-store.fish")]
pub struct Args {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Made first and written then: whoever stops reading is no panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::write(format_args!("{}", String::from_utf8_lossy(&script)))?;
    Ok(ExitCode::SUCCESS)
}
