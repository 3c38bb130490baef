//! `utxoiq-store metrics`: system metrics, through the HTTP API.

mod chart;
mod figures;
mod import;
mod query;
mod show;
mod verify;
mod which;

use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde_json::Value;
use utxoiq_store_server::api::metrics::{wire_figures, wire_read};

pub use self::which::moment;
use self::which::{Series, given, time};
use crate::{
    client::{Api, Connection},
    output::{out, outln},
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Import samples from files
    Import(import::Args),
    /// Show samples as a chart, a table or a file
    Query(query::Args),
    /// List series
    Series(SeriesArgs),
    /// List services with how many series they have, and which labels these come from where they are many
    Services(ServicesArgs),
    /// Rank series by a figure, the greatest first
    Top(TopArgs),
    /// List series that got worse against the same hours of the weeks or days before
    Degradations(DegradationsArgs),
    /// Compare rollups with their samples, day by day; the token needs admin
    Verify(verify::Args),
}

/// What every subcommand takes that prints one answer.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON, as the service answered
    #[arg(long)]
    json: bool,
}

/// Arguments of `series`.
#[derive(Debug, clap::Args)]
pub struct SeriesArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    series: Series,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Where to go on: what the page before named
    #[arg(long)]
    cursor: Option<String>,
}

/// Arguments of `services`.
#[derive(Debug, clap::Args)]
pub struct ServicesArgs {
    #[command(flatten)]
    common: Common,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Only those after this name: the last one of the page before
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
}

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, the ten slowest series of a week:
  utxoiq-store metrics top --by p95 --type latency --hours 168 --limit 10")]
pub struct TopArgs {
    #[command(flatten)]
    common: Common,
    /// By which figure; p95 is the greatest 95th percentile of an hour
    #[arg(long, default_value = "avg", value_parser = ["avg", "max", "p95", "sum", "count"])]
    by: String,
    /// Over how many hours, up to the last one that is rolled up
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=2160))]
    hours: i64,
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Only this service's
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    metric_type: Option<String>,
}

/// Arguments of `degradations`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  utxoiq-store metrics degradations                                     the last hour's p95 of all series
  utxoiq-store metrics degradations --hours 6 --statistic avg --service api
  utxoiq-store metrics degradations --direction down --type throughput  less is worse")]
pub struct DegradationsArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    series: Series,
    /// How long the window is that is compared with the past
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=168))]
    hours: i64,
    /// Where it ends: 2026-01-31, or 2026-01-31T12:00:00Z; else now
    #[arg(long, value_name = "TIME", value_parser = time)]
    end: Option<String>,
    /// What of each hour is compared
    #[arg(long, default_value = "p95", value_parser = ["avg", "max", "p50", "p95", "p99"])]
    statistic: String,
    /// Which change is one to the worse
    #[arg(long, default_value = "up", value_parser = ["up", "down", "both"])]
    direction: String,
    /// The least robust z-score that counts, from 1 to 100; else the service's
    #[arg(long, value_name = "Z")]
    threshold: Option<f64>,
    /// The least change that counts, as a share of what was to be expected; else the service's
    #[arg(long, value_name = "SHARE")]
    min_change: Option<f64>,
}

/// A query's parameters.
type Query = Vec<(&'static str, String)>;

/// Runs a subcommand.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Import(args) => return import::run(args).await,
        Command::Query(args) => query::run(args).await?,
        Command::Series(args) => {
            let mut query = args.series.parameters();
            query.push(("limit", args.limit.to_string()));
            query.extend(given([("cursor", args.cursor)]));
            answer::<wire_read::MetricSeriesPage>(&args.common, "series", query, show::series)
                .await?;
        }
        Command::Services(args) => {
            let mut query = vec![("limit", args.limit.to_string())];
            query.extend(given([("after", args.after)]));
            answer::<wire_read::MetricServices>(&args.common, "services", query, show::services)
                .await?;
        }
        Command::Top(args) => {
            let mut query = vec![
                ("by", args.by),
                ("hours", args.hours.to_string()),
                ("limit", args.limit.to_string()),
            ];
            query.extend(given([
                ("service_name", args.service),
                ("metric_type", args.metric_type),
            ]));
            answer::<wire_figures::TopMetrics>(&args.common, "top", query, show::top).await?;
        }
        Command::Degradations(args) => {
            let mut query = args.series.parameters();
            query.extend([
                ("hours", args.hours.to_string()),
                ("statistic", args.statistic),
                ("direction", args.direction),
            ]);
            query.extend(given([
                ("end_time", args.end),
                ("threshold", args.threshold.map(|number| number.to_string())),
                (
                    "min_change",
                    args.min_change.map(|number| number.to_string()),
                ),
            ]));
            let call = "degradations";
            let show = show::degradations;
            answer::<wire_figures::MetricDegradations>(&args.common, call, query, show).await?;
        }
        Command::Verify(args) => return verify::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the service and prints its answer, as it came or for people.
async fn answer<T: DeserializeOwned>(
    common: &Common,
    call: &str,
    query: Query,
    text: fn(&T) -> String,
) -> anyhow::Result<()> {
    let api = Api::connect(&common.connection)?;
    let answer: Value = api
        .get(&format!("monitoring/metrics/{call}"), &query)
        .await?;
    if common.json {
        outln!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        out!("{}", text(&known(answer)?));
    }
    Ok(())
}

/// An answer in the form that this program knows.
fn known<T: DeserializeOwned>(answer: Value) -> anyhow::Result<T> {
    serde_json::from_value(answer).map_err(|error| {
        anyhow::Error::new(error)
            .context("the service answers in a form that this program does not know")
    })
}
