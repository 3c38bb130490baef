//! `utxoiq-store slo`: the criteria, and how they stand.

use std::{process::ExitCode, time::Duration};

use utxoiq_store::{
    Store,
    slo::{self, Criterion, Report, State, probes::Probe},
    worker::criteria,
};

use crate::{
    Context,
    operator::actor,
    output::{note, out, outln, plain},
    table::{Side, table},
    target::or_interrupted,
};

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(5);

/// Arguments. Exits 1 where a criterion that is shown is missed; one that cannot be judged yet does not fail it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these, C1.1 to C8.5
    #[arg(value_name = "CRITERION", value_parser = known)]
    criteria: Vec<String>,
    /// How far back what was measured is looked at; slo.window_hours unless said
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(i64).range(1..=slo::MAX_WINDOW_HOURS))]
    window_hours: Option<i64>,
    /// Try the capabilities in a scratch database first (database.drill_url), and say what was tried
    #[arg(long, conflicts_with = "watch")]
    probe: bool,
    /// Print JSON, with all evidence
    #[arg(long)]
    json: bool,
    /// Print them again every five seconds, until interrupted
    #[arg(long)]
    watch: bool,
}

fn known(id: &str) -> Result<String, String> {
    slo::of(id)
        .map(|one| one.id.to_owned())
        .ok_or_else(|| "there is no such criterion: they are C1.1 to C8.5".to_owned())
}

pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.config)?;
    if args.probe {
        let probe = Box::pin(criteria::probe(&store, &actor(), store.now())).await?;
        tried(&probe);
    }
    if !args.watch {
        return show(&store, &args).await;
    }
    or_interrupted(async {
        loop {
            show(&store, &args).await?;
            tokio::time::sleep(EVERY).await;
        }
    })
    .await
}

async fn show(store: &Store, args: &Args) -> anyhow::Result<ExitCode> {
    let window = args.window_hours.and_then(chrono::TimeDelta::try_hours);
    let mut report = Report::clone(&*store.slo().report(store.now(), window).await);
    if !args.criteria.is_empty() {
        report
            .criteria
            .retain(|one| args.criteria.iter().any(|id| id == one.id));
    }
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        as_table(&report)?;
    }
    let is_missed = report.criteria.iter().any(|one| one.state == State::Missed);
    Ok(ExitCode::from(u8::from(is_missed)))
}

/// What was tried, beside the answer.
fn tried(probe: &Probe) {
    for step in &probe.steps {
        let sign = if step.ok { '✔' } else { '✘' };
        note(format_args!(
            "{sign} {} {}: {} ({} ms)",
            step.criterion,
            plain(&step.step),
            plain(&step.message),
            step.took_milliseconds
        ));
    }
    if let Some(error) = &probe.error {
        note(format_args!(
            "✘ the rest could not be tried: {}",
            plain(error)
        ));
    }
}

/// A sign and a word: whoever sees no difference between the signs reads the words.
fn state(state: State) -> &'static str {
    match state {
        State::Met => "✔ met",
        State::Missed => "✘ missed",
        State::Unknown => "? unknown",
    }
}

fn row(one: &Criterion) -> [String; 4] {
    [
        one.id.to_owned(),
        state(one.state).to_owned(),
        one.title.to_owned(),
        plain(one.reason.as_ref().unwrap_or(&one.summary)),
    ]
}

fn as_table(report: &Report) -> anyhow::Result<()> {
    let rows: Vec<[String; 4]> = report.criteria.iter().map(row).collect();
    let columns = [
        ("ID", Side::Left),
        ("STATE", Side::Left),
        ("CRITERION", Side::Left),
        ("WHAT WAS FOUND", Side::Left),
    ];
    out!("{}", table(columns, &rows));
    let counts = report.counts;
    outln!(
        "\n{} met, {} missed, {} unknown, of all; judged at {} over {} h",
        counts.met,
        counts.missed,
        counts.unknown,
        report.judged_at.format("%Y-%m-%d %H:%M:%S UTC"),
        report.window_seconds / 3_600
    );
    Ok(())
}
