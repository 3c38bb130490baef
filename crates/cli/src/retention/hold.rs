//! Legal holds.

use anyhow::bail;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use utxoiq_store::{
    Store,
    cold::Dataset,
    retention::{Held, Hold},
};
use uuid::Uuid;

use crate::{
    operator::actor,
    output::{self, note, outln, plain},
    table::{Side, table},
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Place a hold: on days, on what a user gave, or on what was given on an insight
    Add(Add),
    /// List all holds
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Release a hold: what is due goes with the next run
    Release {
        /// Its id
        id: Uuid,
        /// Why; stays in the audit log
        #[arg(long)]
        reason: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `add`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["day", "user", "insight"])))]
pub struct Add {
    /// A day, or the first of several: 2026-08-01
    #[arg(long, value_name = "DAY")]
    day: Option<NaiveDate>,
    /// The last of several days
    #[arg(long, value_name = "DAY", requires = "day")]
    last_day: Option<NaiveDate>,
    /// Only of this dataset: metrics, backfill_jobs, feedback or feedback_history
    #[arg(long, requires = "day")]
    dataset: Option<String>,
    /// The id of a user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The id of an insight
    #[arg(long, value_name = "ID")]
    insight: Option<String>,
    /// Why; stays in the audit log
    #[arg(long)]
    reason: String,
    /// The day on which it ends by itself; until it is released where it is not given
    #[arg(long, value_name = "DAY")]
    until: Option<NaiveDate>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(command: Command, store: &Store) -> anyhow::Result<()> {
    let retention = store.retention()?;
    match command {
        Command::Add(add) => {
            let until = add.until.map(|day| day.and_time(NaiveTime::MIN).and_utc());
            let (reason, json) = (add.reason.clone(), add.json);
            let hold = retention
                .place_hold(held(add)?, &reason, until, store.now(), &actor())
                .await?;
            if json {
                output::json(&hold)?;
            } else {
                note("held; its id is");
                outln!("{}", hold.id);
            }
        }
        Command::List { json } => {
            let holds = retention.holds().await?;
            if json {
                outln!("{}", serde_json::to_string_pretty(&holds)?);
            } else {
                list(&holds)?;
            }
        }
        Command::Release { id, reason, json } => {
            let hold = retention
                .release_hold(id, &reason, store.now(), &actor())
                .await?;
            if json {
                output::json(&hold)?;
            }
            note(format!("the hold on {} is released", what(&hold.held)));
        }
    }
    Ok(())
}

fn held(add: Add) -> anyhow::Result<Held> {
    let dataset = match add.dataset.as_deref() {
        None => None,
        Some(name) => match Dataset::from_name(name) {
            Some(dataset) => Some(dataset),
            None => bail!(
                "{name:?} is no dataset: use metrics, backfill_jobs, feedback or feedback_history"
            ),
        },
    };
    Ok(match (add.day, add.user, add.insight) {
        (Some(first_day), _, _) => Held::Day {
            dataset,
            first_day,
            last_day: add.last_day.unwrap_or(first_day),
        },
        (_, Some(user_id), _) => Held::User { user_id },
        (_, _, Some(insight_id)) => Held::Insight { insight_id },
        (None, None, None) => bail!("say what to hold: --day, --user or --insight"),
    })
}

/// What a hold keeps, in words.
fn what(held: &Held) -> String {
    match held {
        Held::Day {
            dataset,
            first_day,
            last_day,
        } => {
            let dataset = dataset.map_or("all datasets", Dataset::name);
            if first_day == last_day {
                format!("{dataset} of {first_day}")
            } else {
                format!("{dataset} from {first_day} to {last_day}")
            }
        }
        Held::User { user_id } => format!("what {} gave", plain(user_id)),
        Held::Insight { insight_id } => format!("feedback on {}", plain(insight_id)),
    }
}

fn list(holds: &[Hold]) -> anyhow::Result<()> {
    if holds.is_empty() {
        note("there are no holds");
        return Ok(());
    }
    let short = |time: DateTime<Utc>| time.format("%Y-%m-%d").to_string();
    let rows: Vec<[String; 6]> = holds
        .iter()
        .map(|hold| {
            [
                hold.id.to_string(),
                what(&hold.held),
                short(hold.placed_at),
                plain(&hold.placed_by),
                hold.expires_at
                    .map_or_else(|| "it is released".to_owned(), short),
                plain(&hold.reason),
            ]
        })
        .collect();
    let columns = ["ID", "HOLDS", "SINCE", "BY", "UNTIL", "REASON"].map(|name| (name, Side::Left));
    crate::output::out!("{}", table(columns, &rows));
    Ok(())
}
