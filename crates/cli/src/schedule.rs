//! `utxoiq-store schedule`: what runs when, and running it by hand or from outside.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use utxoiq_store::{
    Store,
    config::{Config, DatabaseSettings},
    schedule::{Scheduler, SlotOutcome, SlotResult, TaskStatus, runner_name},
    worker,
};

use crate::Context;
use crate::{
    output::{self, note, out, outln},
    table::{Side, table},
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show each task: when it ran, how that ended, when it is due next, and whether it is late
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a task now, whether it is due or not, and wait for its end
    Run {
        /// Its name, as `schedule status` shows it
        task: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Run what is due, once, and wait for its end: for cron and the like. Exits 1 when a task failed
    Tick {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(few_connections(context.config))?;
    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(&store),
        store.config().schedule.clone(),
        runner_name(),
    )?;
    let now = store.now();
    match command {
        Command::Status { json } => {
            show_status(&scheduler.status(now).await?, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { task, json } => show_outcomes(&[scheduler.run_now(&task, now).await?], json),
        Command::Tick { json } => show_outcomes(&scheduler.tick(now).await?, json),
    }
}

/// A command keeps one connection open and not the service's minimum; more are made when its tasks need them.
fn few_connections(config: Config) -> Config {
    Config {
        database: DatabaseSettings {
            pool_min: 1,
            ..config.database
        },
        ..config
    }
}

/// One line a slot; the exit code says whether all are done.
fn show_outcomes(outcomes: &[SlotOutcome], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::json(&outcomes)?;
    } else {
        for outcome in outcomes {
            outln!("{}", line_of(outcome));
        }
    }
    if outcomes.iter().all(|outcome| outcome.result.is_success()) {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

fn line_of(outcome: &SlotOutcome) -> String {
    let missed = match outcome.missed {
        0 => String::new(),
        missed => format!(", for {missed} earlier ones too"),
    };
    let end = match &outcome.result {
        SlotResult::Succeeded { outcome } => format!("succeeded: {outcome}"),
        SlotResult::Failed {
            error,
            retry_at: Some(retry_at),
        } => {
            format!("failed, tried again at {}: {error}", short(*retry_at))
        }
        SlotResult::Failed {
            error,
            retry_at: None,
        } => format!("failed: {error}"),
        SlotResult::Abandoned { reason } => format!("abandoned: {reason}"),
    };
    one_line(&format!(
        "{} {} attempt {}{missed}: {end}",
        outcome.task,
        short(outcome.slot_at),
        outcome.attempt
    ))
}

fn show_status(tasks: &[TaskStatus], json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&tasks);
    }
    if tasks.is_empty() {
        note("there are no scheduled tasks");
    }
    let rows: Vec<[String; 6]> = tasks.iter().map(row).collect();
    let columns = [
        "TASK",
        "DUE",
        "LAST (UTC)",
        "CAME TO",
        "NEXT (UTC)",
        "WHAT IT DOES",
    ];
    out!("{}", table(columns.map(|name| (name, Side::Left)), &rows));
    Ok(())
}

fn row(task: &TaskStatus) -> [String; 6] {
    let (at, state) = task.last.as_ref().map_or_else(
        || ("-".to_owned(), "never ran".to_owned()),
        |slot| {
            let error = match &slot.error {
                Some(error) => format!(" ({})", one_line(error)),
                None => String::new(),
            };
            (
                short(slot.slot_at),
                format!("{}{error}", slot.state.as_str()),
            )
        },
    );
    let flag = match (task.enabled, task.overdue) {
        (false, _) => ", DISABLED",
        (true, true) => ", OVERDUE",
        (true, false) => "",
    };
    [
        task.task.to_owned(),
        task.cadence.clone(),
        at,
        format!("{state}{flag}"),
        short(task.next_slot_at),
        task.description.to_owned(),
    ]
}

/// An error may have lines of its own; a slot has one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn short(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(missed: i64, result: SlotResult) -> SlotOutcome {
        SlotOutcome {
            task: "backup",
            slot_at: "2025-03-02T01:00:00Z".parse().unwrap(),
            on_demand: false,
            attempt: 1,
            epoch: 1,
            missed,
            result,
        }
    }

    #[test]
    fn a_slot_is_one_line() {
        let good = SlotResult::Succeeded {
            outcome: serde_json::json!({ "rows": 3 }),
        };
        assert_eq!(
            line_of(&outcome(2, good)),
            "backup 2025-03-02T01:00:00Z attempt 1, for 2 earlier ones too: succeeded: {\"rows\":3}"
        );
        let bad = SlotResult::Failed {
            error: "no\nluck".into(),
            retry_at: None,
        };
        assert_eq!(
            line_of(&outcome(0, bad)),
            "backup 2025-03-02T01:00:00Z attempt 1: failed: no luck"
        );
    }

    #[test]
    fn one_failure_makes_the_command_fail() {
        let good = || SlotResult::Succeeded {
            outcome: serde_json::Value::Null,
        };
        let bad = SlotResult::Abandoned {
            reason: "lost".into(),
        };
        let code =
            |outcomes: &[SlotOutcome]| format!("{:?}", show_outcomes(outcomes, false).unwrap());
        assert_eq!(code(&[]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(
            code(&[outcome(0, good())]),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            code(&[outcome(0, good()), outcome(0, bad)]),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
