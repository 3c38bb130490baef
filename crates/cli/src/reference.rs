//! `utxoiq-store reference`: docs/cli.md, made of what the program itself says of its commands.

use std::{fmt::Write as _, process::ExitCode};

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use serde_json::{Value, json};

use crate::{
    Cli,
    output::{self, out},
};

/// What stands before the commands.
const INTRODUCTION: &str = include_str!("reference/introduction.md");

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As JSON: each command, its options, and whether it can answer in JSON
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut commands = Vec::new();
    leaves(&root, "", &mut commands);
    if args.json {
        let told: Vec<Value> = commands
            .iter()
            .map(|(name, command)| {
                let has_json = command.get_arguments().any(|arg| arg.get_id() == "json");
                let options: Vec<&str> =
                    command.get_arguments().filter_map(Arg::get_long).collect();
                json!({ "command": name, "json": has_json, "options": options })
            })
            .collect();
        output::json(&told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## Commands\n\n| command | what it does |\n|---|---|\n");
    for (name, command) in &commands {
        let anchor = format!("utxoiq-store {name}").replace(' ', "-");
        let _ = writeln!(text, "| [`{name}`](#{anchor}) | {} |", about(command));
    }
    for (name, command) in &mut commands {
        section(name, command, &mut text);
    }
    out!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Commands that do something, with the words that call them.
fn leaves(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    for below in command.get_subcommands() {
        if below.is_hide_set() || below.get_name() == "help" {
            continue;
        }
        let words = format!("{words} {}", below.get_name()).trim().to_owned();
        if below.has_subcommands() {
            leaves(below, &words, found);
        } else {
            found.push((words, below.clone()));
        }
    }
}

fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    cell(&about.unwrap_or_default())
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('\n', " ")
        .replace('<', "&lt;")
}

fn section(name: &str, command: &mut Command, text: &mut String) {
    let _ = write!(text, "\n### utxoiq-store {name}\n\n");
    let long = command.get_long_about().or(command.get_about());
    let long = long.map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "{}.\n", long.trim_end_matches('.'));
    let usage = command.render_usage().to_string();
    let _ = writeln!(
        text,
        "```text\n{}\n```",
        usage.trim_start_matches("Usage: ")
    );
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| {
            !arg.is_hide_set() && !["help", "config", "version"].contains(&arg.get_id().as_str())
        })
        .collect();
    if !shown.is_empty() {
        text.push_str("\n| argument | what it is |\n|---|---|\n");
        for arg in shown {
            let _ = writeln!(
                text,
                "| `{}` | {} |",
                name_of(arg).replace('|', "\\|"),
                meaning(arg)
            );
        }
    }
    if let Some(after) = command.get_after_help() {
        let _ = write!(text, "\n```text\n{}\n```\n", after.to_string().trim_end());
    }
}

fn name_of(arg: &Arg) -> String {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let values: Vec<String> = arg
        .get_value_names()
        .map(|names| names.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    let value = values.join(" ");
    match (arg.get_long(), arg.get_short()) {
        (None, None) => value,
        (Some(long), short) => {
            let short = short.map_or_else(String::new, |short| format!("-{short}, "));
            let value = if takes_value {
                format!(" {value}")
            } else {
                String::new()
            };
            format!("{short}--{long}{value}")
        }
        (None, Some(short)) => format!("-{short} {value}"),
    }
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let mut meaning = cell(&help.map(ToString::to_string).unwrap_or_default());
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    if takes_value && !defaults.is_empty() {
        let _ = write!(meaning, " (else {})", defaults.join(", "));
    }
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if takes_value && !possible.is_empty() {
        let _ = write!(meaning, "; one of {}", possible.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(meaning, "; variable `{}`", variable.to_string_lossy());
    }
    meaning
}
