//! `metrics verify`: rollups compared with their samples, day by day.

use std::process::ExitCode;

use chrono::{DateTime, Days, NaiveDate, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use utxoiq_store::clock::{Clock as _, SystemClock};
use utxoiq_store_server::api::metrics::wire_figures::DayVerified;

use super::{figures::count, known};
use crate::{
    client::{Api, Connection},
    output::{note, outln, plain},
};

/// The days that are verified unless said.
const LAST_DAYS: u64 = 7;

/// The most days at once: more than any hot horizon should have.
const MAX_DAYS: i64 = 3_660;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 1 where rollups differ and were not made again.

Examples:
  utxoiq-store metrics verify                                      the last 7 days
  utxoiq-store metrics verify --from 2026-03-01 --to 2026-04-01 --repair"
)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The first day (UTC), such as 2026-01-31; else the last 7 days
    #[arg(long, value_name = "DAY")]
    from: Option<NaiveDate>,
    /// The day after the last one; today, if not given
    #[arg(long, value_name = "DAY")]
    to: Option<NaiveDate>,
    /// Make again what differs
    #[arg(long)]
    repair: bool,
    /// Print JSON: what the service answered for each day
    #[arg(long)]
    json: bool,
}

/// What was found in all days.
#[derive(Default)]
struct Found {
    answers: Vec<Value>,
    verified: u64,
    compared: u64,
    waiting: u64,
    without_samples: u64,
    not_rolled_up: Vec<NaiveDate>,
    differing: u64,
    left: u64,
}

/// Verifies.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let days = days(args.from, args.to, SystemClock.now())?;
    let api = Api::connect(&args.connection)?;
    let bar = ProgressBar::with_draw_target(
        Some(days.len().try_into().unwrap_or(0)),
        ProgressDrawTarget::stderr(),
    );
    let style = ProgressStyle::with_template("[{wide_bar}] {pos}/{len} days  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    bar.set_style(style);
    let mut found = Found::default();
    for day in days {
        bar.set_message(day.to_string());
        let told = found.verify(&api, day, args.repair).await?;
        for line in told {
            bar.suspend(|| note(line));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&found.answers)?);
    } else {
        outln!("{}", found.summary());
    }
    Ok(ExitCode::from(u8::from(found.left > 0)))
}

fn days(
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<NaiveDate>> {
    let to = to.unwrap_or_else(|| now.date_naive());
    let from = from
        .or_else(|| to.checked_sub_days(Days::new(LAST_DAYS)))
        .unwrap_or(to);
    let length = (to - from).num_days();
    anyhow::ensure!(
        (1..=MAX_DAYS).contains(&length),
        "--from {from} and --to {to} must be 1 to {MAX_DAYS} days apart; --to is the day after the last one"
    );
    Ok(from.iter_days().take_while(|day| *day < to).collect())
}

impl Found {
    /// Verifies a day, and tells what differs.
    async fn verify(
        &mut self,
        api: &Api,
        day: NaiveDate,
        repair: bool,
    ) -> anyhow::Result<Vec<String>> {
        let ask = async |repair: bool| {
            let body = json!({ "day": day, "repair": repair });
            api.post::<Value>("monitoring/metrics/verify", &body).await
        };
        let answer = match ask(repair).await {
            Ok(answer) => answer,
            Err(error) if error.code() == "no_such_day" => {
                self.without_samples += 1;
                return Ok(Vec::new());
            }
            Err(error) if error.code() == "not_rolled_up" => {
                self.not_rolled_up.push(day);
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let verified: DayVerified = known(answer.clone())?;
        self.answers.push(answer);
        let mut told = differences(&verified);
        let mut last = verified;
        self.compared += last.compared;
        self.differing += last.differing;
        if last.differing > 0 && repair {
            let answer = ask(false).await?;
            last = known(answer.clone())?;
            self.answers.push(answer);
            told.push(format!("{day}: made again, {} differ now", last.differing));
        }
        self.left += last.differing;
        self.waiting += last.waiting;
        self.verified += u64::from(last.is_verified);
        Ok(told)
    }

    fn summary(&self) -> String {
        let mut text = format!(
            "{} days verified, {} rollups compared, {} differences",
            self.verified,
            count(self.compared),
            self.differing
        );
        if self.differing > 0 && self.left == 0 {
            text.push_str(", all made again");
        } else if self.left > 0 {
            text.push_str(&format!(
                ", {} left: make them again with --repair, then see docs/operations/metrics.md",
                self.left
            ));
        }
        if self.without_samples > 0 {
            text.push_str(&format!("; {} days without samples", self.without_samples));
        }
        if self.waiting > 0 {
            text.push_str(&format!(
                "; {} hours of series wait to be rolled up again: verify later",
                self.waiting
            ));
        }
        if let (Some(first), count) = (self.not_rolled_up.first(), self.not_rolled_up.len()) {
            text.push_str(&format!(
                "; {count} days from {first} on are not rolled up yet"
            ));
        }
        text
    }
}

/// A line for each difference that is named.
fn differences(verified: &DayVerified) -> Vec<String> {
    let count =
        |count: Option<u64>| count.map_or_else(|| "no".to_owned(), |count| count.to_string());
    let mut told: Vec<String> = verified
        .differences
        .iter()
        .map(|one| {
            format!(
                "{}: series {}, {} from {}: the rollup has {} samples, there are {}",
                verified.day,
                one.series_id,
                plain(&one.interval),
                one.bucket.format("%Y-%m-%d %H:%M"),
                count(one.stored_count),
                count(one.count)
            )
        })
        .collect();
    let more = usize::try_from(verified.differing)
        .unwrap_or(usize::MAX)
        .saturating_sub(told.len());
    if more > 0 {
        told.push(format!("{}: {more} more differ", verified.day));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_day_is_the_one_before_the_end() {
        let now = "2026-03-10T00:30:00Z".parse().unwrap();
        let day = |day: &str| Some(day.parse::<NaiveDate>().unwrap());
        let last = days(None, None, now).unwrap();
        assert_eq!(
            (last.first().copied(), last.last().copied(), last.len()),
            (day("2026-03-03"), day("2026-03-09"), 7)
        );
        assert_eq!(
            days(day("2026-02-28"), day("2026-03-02"), now)
                .unwrap()
                .len(),
            2
        );
        for (from, to) in [
            ("2026-03-10", "2026-03-10"),
            ("2026-03-11", "2026-03-10"),
            ("1900-01-01", "2026-03-10"),
        ] {
            assert!(days(day(from), day(to), now).is_err());
        }
    }
}
