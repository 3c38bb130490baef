//! `utxoiq-store migrate`: applies, rolls back, shows, drafts and checks migrations (C5.1–C5.5).

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    db::{
        migrate::{DownOptions, Drift, Migrator, Status, lint, new_pair},
        roles,
    },
};

use crate::Context;
use crate::output::{self, note, out, outln};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Apply what is pending, in order
    Up {
        #[command(flatten)]
        source: Source,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Roll back the newest migration; refuses when that would lose data
    Down {
        /// Roll back even though rows are lost
        #[arg(long)]
        allow_data_loss: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is applied, what is pending, and how the schema differs from what was recorded
    Status {
        /// Exit with 2 when something is pending, changed or drifted
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        source: Source,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a new pair of files with the next number and the time
    New {
        /// What it does, as verb_noun: add_job_priority
        name: String,
        /// The folder with the migrations
        #[arg(long, value_name = "FOLDER", default_value = "crates/store/migrations")]
        dir: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Refuse unsafe statements, with the safe recipe
    Lint {
        #[command(flatten)]
        source: Source,
        /// List the rules
        #[arg(long)]
        rules: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
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
        Command::Up { source, json } => up(&source, &context, json).await,
        Command::Down {
            allow_data_loss,
            json,
        } => down(allow_data_loss, &context, json).await,
        Command::Status {
            check,
            source,
            json,
        } => status(check, &source, &context, json).await,
        Command::New { name, dir, json } => draft(&name, &dir, json),
        Command::Lint {
            source,
            rules,
            json,
        } => check(&source, rules, json),
    }
}

async fn up(source: &Source, context: &Context, as_json: bool) -> anyhow::Result<ExitCode> {
    let url = context.config.database.admin_url()?;
    let applied = source.migrator()?.up(url, &SystemClock).await?;
    if as_json {
        let applied = applied.iter().map(|one| {
            let milliseconds = u64::try_from(one.duration.as_millis()).unwrap_or(u64::MAX);
            json!({ "migration": format!("{:04}_{}", one.number, one.name), "milliseconds": milliseconds })
        });
        output::json(&json!({ "applied": applied.collect::<Vec<_>>() }))?;
        warn_of_open_doors(url).await;
        return Ok(ExitCode::SUCCESS);
    }
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

async fn down(allow_data_loss: bool, context: &Context, as_json: bool) -> anyhow::Result<ExitCode> {
    let url = context.config.database.admin_url()?;
    let options = DownOptions { allow_data_loss };
    let done = Migrator::embedded()?.down(url, options).await?;
    if as_json {
        let lines = |lines: &[Drift]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        output::json(&json!({
            "rolled_back": done.as_ref().map(|done| format!("{:04}_{}", done.number, done.name)),
            "lost": done.iter().flat_map(|done| &done.lost).map(ToString::to_string).collect::<Vec<_>>(),
            "drift": done.as_ref().map_or_else(Vec::new, |done| lines(&done.drift)),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(done) = done else {
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

async fn status(
    check: bool,
    source: &Source,
    context: &Context,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let url = context.config.database.admin_url()?;
    let status = source.migrator()?.status(url).await?;
    if as_json {
        output::json(&told(&status))?;
    } else {
        out!("{}", render(&status));
    }
    warn_of_open_doors(url).await;
    let code = if check && !status.is_clean() { 2 } else { 0 };
    Ok(ExitCode::from(code))
}

fn told(status: &Status) -> Value {
    let applied = status.applied.iter().map(|record| {
        json!({
            "migration": record.label(),
            "applied_at": record.applied_at,
            "applied_by": record.applied_by,
            "milliseconds": u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX),
        })
    });
    json!({
        "clean": status.is_clean(),
        "applied": applied.collect::<Vec<_>>(),
        "pending": status.pending,
        "unknown": status.unknown,
        "changed": status.changed,
        "drift": status.drift.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
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

fn draft(name: &str, dir: &std::path::Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let files = new_pair(dir, name, SystemClock.now())?;
    if as_json {
        output::json(&json!({ "files": files }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for path in files {
        outln!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn check(source: &Source, rules: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    if rules && as_json {
        let rules = lint::RULES
            .iter()
            .map(|rule| json!({ "rule": rule.name, "advice": rule.advice }));
        output::json(&json!({ "rules": rules.collect::<Vec<_>>() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if rules {
        for rule in lint::RULES {
            outln!("{}\n    {}", rule.name, rule.advice);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let migrator = source.migrator()?;
    let findings = lint::lint(migrator.migrations());
    if as_json {
        let told = findings.iter().map(|one| {
            json!({ "file": one.file, "line": one.line, "rule": one.rule, "advice": one.advice })
        });
        output::json(
            &json!({ "migrations": migrator.migrations().len(), "findings": told.collect::<Vec<_>>() }),
        )?;
        return Ok(ExitCode::from(u8::from(!findings.is_empty())));
    }
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
