//! `utxoiq-store migrate`: applies, rolls back, shows, drafts and checks migrations (C5.1–C5.5).

use std::{path::PathBuf, process::ExitCode};

use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    db::{
        migrate::{DownOptions, Migrator, Status, lint, new_pair},
        roles,
    },
};

use crate::Context;
use crate::output::{note, out, outln};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Apply what is pending, in order
    Up {
        #[command(flatten)]
        source: Source,
    },
    /// Roll back the newest migration; refuses when that would lose data
    Down {
        /// Roll back even though rows are lost
        #[arg(long)]
        allow_data_loss: bool,
    },
    /// Show what is applied, what is pending, and how the schema differs from what was recorded
    Status {
        /// Exit with 2 when something is pending, changed or drifted
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Write a new pair of files with the next number and the time
    New {
        /// What it does, as verb_noun: add_job_priority
        name: String,
        /// The folder with the migrations
        #[arg(long, value_name = "FOLDER", default_value = "crates/store/migrations")]
        dir: PathBuf,
    },
    /// Refuse unsafe statements, with the safe recipe
    Lint {
        #[command(flatten)]
        source: Source,
        /// List the rules
        #[arg(long)]
        rules: bool,
    },
}

/// Which migrations.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// Take the migrations from a folder instead of those built in
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Source {
    fn migrator(&self) -> utxoiq_store::Result<Migrator> {
        match &self.dir {
            Some(dir) => Migrator::from_dir(dir),
            None => Migrator::embedded(),
        }
    }
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up { source } => up(&source, &context).await,
        Command::Down { allow_data_loss } => down(allow_data_loss, &context).await,
        Command::Status { check, source } => status(check, &source, &context).await,
        Command::New { name, dir } => draft(&name, &dir),
        Command::Lint { source, rules } => check(&source, rules),
    }
}

async fn up(source: &Source, context: &Context) -> anyhow::Result<ExitCode> {
    let url = context.config.database.admin_url()?;
    let applied = source.migrator()?.up(url, &SystemClock).await?;
    for migration in &applied {
        outln!(
            "applied {:04}_{} in {} ms",
            migration.number,
            migration.name,
            migration.duration.as_millis()
        );
    }
    if applied.is_empty() {
        outln!("nothing is pending");
    }
    warn_of_open_doors(url).await;
    Ok(ExitCode::SUCCESS)
}

/// Migrations cannot take rights on the database away: that is up to `init`, which an administrator runs. It is only said, since
/// nothing that was asked for has failed.
async fn warn_of_open_doors(url: &str) {
    match roles::open_doors(url).await {
        Ok(doors) if doors.is_empty() => {}
        Ok(doors) => {
            for door in doors {
                note(format_args!("warning: {door}"));
            }
            note(
                "next: `utxoiq-store init`, as an administrator, takes that away; see docs/operations/migrations.md, \"Upgrading to this release\"",
            );
        }
        Err(error) => note(format_args!(
            "warning: nobody could look who may connect to this database: {error}"
        )),
    }
}

async fn down(allow_data_loss: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let url = context.config.database.admin_url()?;
    let options = DownOptions { allow_data_loss };
    let Some(done) = Migrator::embedded()?.down(url, options).await? else {
        outln!("nothing is applied");
        return Ok(ExitCode::SUCCESS);
    };
    outln!("rolled back {:04}_{}", done.number, done.name);
    for loss in &done.lost {
        outln!("  lost {loss}");
    }
    if !done.drift.is_empty() {
        outln!("the schema is not what it was before that migration:");
        for line in &done.drift {
            outln!("  {line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(check: bool, source: &Source, context: &Context) -> anyhow::Result<ExitCode> {
    let url = context.config.database.admin_url()?;
    let status = source.migrator()?.status(url).await?;
    out!("{}", render(&status));
    warn_of_open_doors(url).await;
    let code = if check && !status.is_clean() { 2 } else { 0 };
    Ok(ExitCode::from(code))
}

fn render(status: &Status) -> String {
    let mut text = String::new();
    for record in &status.applied {
        let label = record.label();
        let note = if status.unknown.contains(&label) {
            "  (not known to this binary)"
        } else {
            ""
        };
        text.push_str(&format!(
            "applied  {label}  {}  by {} in {} ms{note}\n",
            record.applied_at.format("%Y-%m-%d %H:%M:%S UTC"),
            record.applied_by,
            record.duration.as_millis()
        ));
    }
    for label in &status.pending {
        text.push_str(&format!("pending  {label}\n"));
    }
    for changed in &status.changed {
        text.push_str(&format!("changed  {changed}\n"));
    }
    if !status.drift.is_empty() {
        text.push_str(
            "drift    the schema differs from what was recorded (- is gone, + is new):\n",
        );
        for line in &status.drift {
            text.push_str(&format!("  {line}\n"));
        }
    }
    let summary = if status.is_clean() {
        "the schema is as it should be".to_owned()
    } else {
        let parts = [
            (status.pending.len(), "pending"),
            (status.changed.len(), "changed"),
            (status.drift.len(), "lines of drift"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        parts.join(", ")
    };
    text.push_str(&format!("{summary}\n"));
    text
}

fn draft(name: &str, dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    for path in new_pair(dir, name, SystemClock.now())? {
        outln!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn check(source: &Source, rules: bool) -> anyhow::Result<ExitCode> {
    if rules {
        for rule in lint::RULES {
            outln!("{}\n    {}", rule.name, rule.advice);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let migrator = source.migrator()?;
    let findings = lint::lint(migrator.migrations());
    for finding in &findings {
        outln!("{finding}");
    }
    if findings.is_empty() {
        outln!("{} migrations, nothing unsafe", migrator.migrations().len());
        return Ok(ExitCode::SUCCESS);
    }
    outln!(
        "{} findings; waive one with `-- utxoiq: allow <rule> because <reason>` before its statement",
        findings.len()
    );
    Ok(ExitCode::FAILURE)
}
