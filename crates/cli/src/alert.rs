//! `utxoiq-store alert`: what is wrong, directly on the database, and whether alerts arrive, without it.

use std::process::ExitCode;

use utxoiq_store::{
    alert::{Alerts, Filter, Listed, MAX_NOTE, Progress},
    clock::{Clock as _, SystemClock},
    db::Pool,
};

use crate::{
    Context,
    operator::actor,
    output::{self, note, outln, plain},
    table::{Side, table},
    token::administrative,
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Send a trial to every receiver and say who took it; needs no database, and exits with 1 where one did not
    Test {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List what is wrong, the newest first, and what its receivers were told
    List(List),
    /// Take an alert: it is not told again while it is open
    Ack(Ack),
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Also what was wrong
    #[arg(long)]
    all: bool,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// Arguments of `ack`.
#[derive(Debug, clap::Args)]
pub struct Ack {
    /// Its id or its key, as `list` shows them
    #[arg(value_name = "ID-OR-KEY")]
    alert: String,
    /// What you do about it, for the others
    #[arg(long)]
    note: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    let alerts = Alerts::open(&context.config)?;
    if let Command::Test { json } = command {
        return test(&alerts, json).await;
    }
    let pool = Pool::open(&administrative(&context.config.database)?)?;
    match command {
        Command::List(args) => list(&alerts, &pool, &args).await?,
        Command::Ack(args) => ack(&alerts, &pool, &args).await?,
        Command::Test { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn test(alerts: &Alerts, json: bool) -> anyhow::Result<ExitCode> {
    let tested = alerts.test(SystemClock.now()).await;
    let refused = tested.iter().filter(|one| !one.accepted).count();
    if json {
        outln!("{}", serde_json::to_string_pretty(&tested)?);
        return Ok(ExitCode::from(u8::from(refused > 0)));
    }
    let rows: Vec<[String; 3]> = tested
        .iter()
        .map(|one| {
            let outcome = one.error.as_deref().map_or("took it", |error| error);
            [
                plain(&one.sink),
                format!("{} ms", one.took_milliseconds),
                plain(outcome),
            ]
        })
        .collect();
    let columns = [
        ("RECEIVER", Side::Left),
        ("TOOK", Side::Right),
        ("OUTCOME", Side::Left),
    ];
    outln!("{}", table(columns, &rows).trim_end());
    if tested.len() == 1 {
        note(
            "only the log is told: set a receiver in the section alert, docs/operations/alerts.md",
        );
    }
    Ok(ExitCode::from(u8::from(refused > 0)))
}

async fn list(alerts: &Alerts, pool: &Pool, args: &List) -> anyhow::Result<()> {
    let filter = if args.all { Filter::All } else { Filter::Open };
    let page = alerts.list(pool, filter, args.limit, 0).await?;
    for listed in &page.alerts {
        if args.json {
            outln!("{}", serde_json::to_string(listed)?);
        } else {
            show(listed)?;
        }
    }
    if page.alerts.is_empty() {
        note("nothing is wrong");
    } else if page.has_more {
        note(format_args!(
            "there are more: raise --limit above {}",
            args.limit
        ));
    }
    Ok(())
}

fn show(listed: &Listed) -> anyhow::Result<()> {
    let alert = &listed.alert;
    let state = match (alert.resolved_at, alert.acknowledged_at) {
        (Some(at), _) => format!("over since {}", at.format("%Y-%m-%d %H:%M:%S")),
        (None, Some(_)) => "taken".to_owned(),
        (None, None) => "open".to_owned(),
    };
    outln!(
        "{}  {}  {}  since {}  {state}",
        alert.id,
        alert.severity,
        plain(&alert.key),
        alert.opened_at.format("%Y-%m-%d %H:%M:%S")
    );
    outln!("  {}", plain(&alert.title));
    for line in alert.detail.lines() {
        outln!("  {}", plain(line));
    }
    if let Some(by) = &alert.acknowledged_by {
        let said = alert
            .note
            .as_ref()
            .map_or_else(String::new, |note| format!(": {}", plain(note)));
        outln!("  taken by {}{said}", plain(by));
    }
    if !alert.runbook.is_empty() {
        outln!("  runbook: {}", plain(&alert.runbook));
    }
    for progress in &listed.deliveries {
        outln!("  {}", delivery(progress));
    }
    Ok(())
}

fn delivery(progress: &Progress) -> String {
    let told = match progress.delivered_at {
        None => "not told yet".to_owned(),
        Some(at) => format!(
            "told {} times, last at {}",
            progress.deliveries,
            at.format("%Y-%m-%d %H:%M:%S")
        ),
    };
    let failing = progress
        .last_error
        .as_ref()
        .map_or_else(String::new, |error| {
            let times = progress.failures;
            format!("; failed {times} times since: {}", plain(error))
        });
    let what = progress.what.as_str();
    format!("{} ({what}): {told}{failing}", plain(&progress.sink))
}

async fn ack(alerts: &Alerts, pool: &Pool, args: &Ack) -> anyhow::Result<()> {
    let said = args.note.as_deref().map(str::trim);
    if said.is_some_and(|said| said.is_empty() || said.chars().count() > MAX_NOTE) {
        anyhow::bail!("--note must have from 1 to {MAX_NOTE} characters");
    }
    let by = actor();
    let now = SystemClock.now();
    let alert = alerts
        .acknowledge(pool, &args.alert, &by, said, now)
        .await?;
    if args.json {
        return output::json(&alert);
    }
    let taken_by = alert.acknowledged_by.as_deref().unwrap_or_default();
    if alert.acknowledged_at == Some(now) {
        outln!("{} is yours: {}", alert.id, plain(&alert.title));
    } else {
        outln!("{} was taken before, by {}", alert.id, plain(taken_by));
    }
    Ok(())
}
