//! `utxoiq-store feedback`: what users think of insights, through the HTTP API.

mod erase;
mod export;
mod show;

use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde_json::Value;
use utxoiq_store_server::api::feedback::wire;

use crate::{
    Context,
    client::{Api, Connection},
    output::{out, outln},
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what users think of an insight
    Stats(Stats),
    /// Find feedback, the last changed first; the token needs feedback:read and, except for its own user, feedback:read_all
    Search(Search),
    /// Rank insights, the best first
    Top(Top),
    /// Show the review queue: flagged insights, those with the most flags first
    Flagged(Flagged),
    /// Show what users did day by day
    Trend(Trend),
    /// Export feedback as CSV or NDJSON, to standard output or a file
    Export(export::Args),
    /// Erase everything that a person gave, from the database and the archives, and print the certificate
    Erase(erase::Args),
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

/// Which page of a list.
#[derive(Debug, clap::Args)]
struct Paged {
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=100))]
    limit: i64,
    /// Where to go on: what the page before named
    #[arg(long, conflicts_with = "offset")]
    cursor: Option<String>,
    /// How many to skip
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
}

/// Which feedback.
#[derive(Debug, Clone, clap::Args)]
struct Conditions {
    /// Only this user's
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only on this insight
    #[arg(long, value_name = "ID")]
    insight: Option<String>,
    /// Only what was last changed at this time or later: 2026-01-31, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<String>,
    /// Only what was last changed before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<String>,
    /// Only with this rating
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=5))]
    rating: Option<i64>,
    /// Only with a flag: any, or one of a type
    #[arg(long, value_parser = ["any", "inaccurate", "misleading", "spam", "inappropriate", "other"])]
    flag: Option<String>,
    /// Only with a comment (true), or only without one (false)
    #[arg(long, value_name = "BOOL")]
    comment: Option<bool>,
}

/// Arguments of `stats`.
#[derive(Debug, clap::Args)]
pub struct Stats {
    #[command(flatten)]
    common: Common,
    /// The insight's id
    insight: String,
}

/// Arguments of `search`.
#[derive(Debug, clap::Args)]
pub struct Search {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    page: Paged,
}

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct Top {
    #[command(flatten)]
    common: Common,
    /// By which score
    #[arg(long, default_value = "bayesian_mean", value_parser = ["bayesian_mean", "lower_bound"])]
    ranking: String,
    /// Only insights with at least so many ratings
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    min_ratings: i64,
    #[command(flatten)]
    page: Paged,
}

/// Arguments of `flagged`.
#[derive(Debug, clap::Args)]
pub struct Flagged {
    #[command(flatten)]
    common: Common,
    /// Only flags of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = ["inaccurate", "misleading", "spam", "inappropriate", "other"])]
    flag_type: Option<String>,
    /// Only flags on this insight
    #[arg(long, value_name = "ID")]
    insight: Option<String>,
    /// Only flags set or last changed at this time or later: 2026-01-31, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<String>,
    /// Only flags set or last changed before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<String>,
    #[command(flatten)]
    page: Paged,
}

/// Arguments of `trend`.
#[derive(Debug, clap::Args)]
pub struct Trend {
    #[command(flatten)]
    common: Common,
    /// The insight's id; all insights where it is not given
    insight: Option<String>,
    /// The first day (UTC), such as 2026-01-31; else 30 days are shown
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The day after the last one; else today is the last
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
}

/// A query's parameters.
type Query = Vec<(&'static str, String)>;

impl Paged {
    fn parameters(&self) -> Query {
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        query.extend(self.offset.map(|offset| ("offset", offset.to_string())));
        query
    }
}

impl Conditions {
    fn parameters(self) -> Query {
        given([
            ("user_id", self.user),
            ("insight_id", self.insight),
            ("from", self.from),
            ("to", self.to),
            ("rating", self.rating.map(|rating| rating.to_string())),
            ("flag", self.flag),
            ("has_comment", self.comment.map(|has| has.to_string())),
        ])
    }
}

fn given(parameters: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Query {
    let parameters = parameters.into_iter();
    parameters
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// A time as the service takes it; a day is its beginning. What is no time the service refuses, with its reason.
#[allow(clippy::unnecessary_wraps)] // the form that clap wants
fn time(text: &str) -> Result<String, std::convert::Infallible> {
    let is_day = text.len() == 10
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    Ok(if is_day {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    })
}

/// Runs a subcommand.
pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Stats(args) => {
            let query = vec![("insight_id", args.insight)];
            answer::<wire::Stats>(&args.common, "stats", query, show::stats).await?;
        }
        Command::Search(args) => {
            let mut query = args.conditions.parameters();
            query.extend(args.page.parameters());
            answer::<wire::Found>(&args.common, "search", query, show::found).await?;
        }
        Command::Top(args) => {
            let mut query = vec![
                ("ranking", args.ranking),
                ("min_ratings", args.min_ratings.to_string()),
            ];
            query.extend(args.page.parameters());
            answer::<wire::Top>(&args.common, "top", query, show::top).await?;
        }
        Command::Flagged(args) => {
            let mut query = given([
                ("flag_type", args.flag_type),
                ("insight_id", args.insight),
                ("from", args.from),
                ("to", args.to),
            ]);
            query.extend(args.page.parameters());
            answer::<wire::Flagged>(&args.common, "flagged", query, show::flagged).await?;
        }
        Command::Trend(args) => {
            let query = given([
                ("insight_id", args.insight),
                ("from_day", args.from),
                ("to_day", args.to),
            ]);
            answer::<wire::Trend>(&args.common, "trend", query, show::trend).await?;
        }
        Command::Export(args) => return export::run(args).await,
        Command::Erase(args) => return erase::run(args, context).await,
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
    let answer: Value = api.get(&format!("feedback/{call}"), &query).await?;
    if common.json {
        outln!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        let answer = serde_json::from_value(answer).map_err(|error| {
            anyhow::Error::new(error)
                .context("the service answers in a form that this program does not know")
        })?;
        out!("{}", text(&answer));
    }
    Ok(())
}
