//! `utxoiq-store demo`: fills a fresh store with believable data, so that every page and command has something to show.
//!
//! # What it guarantees
//!
//! * **It does not mix with real data.** A database with jobs, feedback, samples or archives is refused, and nothing lifts
//!   that: what was mixed cannot be told apart again. A database on another machine needs `--yes`.
//! * **Nothing of it is faked that the product checks.** Rows are written as the serving role, past no trigger; rollups are made
//!   by the roller, archives by retention and backups by the backup, each under a clock that stands where the history is. So
//!   every check finds nothing wrong afterwards.
//! * **The same seed gives the same data** at the same `--as-of`; ids that the database gives are others.
//! * **What began is marked.** The audit log has an entry when it begins and one when it ends.
//!
//! The history is laid in the order in which it would have come, a week at a time: what is a week's data is rolled up, and then
//! retention runs as of that week. So there are never more days in the database than there would have been.

// What is drawn is within the bounds of what it is written as.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]

mod backfill;
mod backups;
mod chain;
mod clock;
mod feedback;
mod metrics;
mod progress;
mod queries;
mod schedule;
mod trouble;
mod words;

use std::{io::IsTerminal as _, process::ExitCode, sync::Arc, time::Instant};

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};
use url::Url;
use utxoiq_store::{
    Store,
    audit::{Action, Entry},
    clock::{Clock as _, SystemClock, to_micros},
    config::{BackupSettings, Config, DatabaseSettings, DatabaseUrl, RedisSettings, Secret},
    db,
};

use self::{clock::HistoryClock, progress::Progress};
use crate::{
    Context,
    operator::actor,
    output::{note, outln},
    target::or_interrupted,
};

/// What the audit log calls it.
const SUBJECT: &str = "demo";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Refuses a database that has data of its own: start with a fresh one.

Examples:
  ./dev up --detach && source .local/env && utxoiq-store demo
  utxoiq-store demo --days 120 --seed 7"
)]
pub struct Args {
    /// How many days of history
    #[arg(long, value_name = "N", default_value_t = 730, value_parser = clap::value_parser!(i64).range(1..=1_500))]
    days: i64,
    /// What the data is drawn from: the same number gives the same data
    #[arg(long, value_name = "N", default_value_t = 840_000)]
    seed: u64,
    /// When the history ends (RFC 3339); else now
    #[arg(long, value_name = "TIME")]
    as_of: Option<DateTime<Utc>>,
    /// Minutes between the samples of a series that are in the database; those of the last week lie five times as close
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(i64).range(1..=60))]
    sample_minutes: i64,
    /// Also fill a database on another machine
    #[arg(long)]
    yes: bool,
    /// As JSON: what was written
    #[arg(long)]
    json: bool,
}

/// What the steps share.
struct Demo {
    store: Store,
    clock: HistoryClock,
    progress: Progress,
    seed: u64,
    days: i64,
    as_of: DateTime<Utc>,
}

/// What was written.
#[derive(Debug, Default, serde::Serialize)]
struct Written {
    from: NaiveDate,
    as_of: DateTime<Utc>,
    seed: u64,
    backfill_jobs: u64,
    feedback: u64,
    insights: u64,
    series: u64,
    samples: u64,
    archives: u64,
    retention_runs: u64,
    backups: u64,
    scheduled_runs: u64,
    alerts: u64,
    milliseconds: u64,
    notes: Vec<String>,
}

impl Demo {
    /// The day on which the history begins.
    fn first_day(&self) -> NaiveDate {
        self.as_of.date_naive() - TimeDelta::days(self.days)
    }

    /// A generator for one part: what one draws changes no other.
    fn random(&self, part: u64) -> rand::rngs::StdRng {
        rand::SeedableRng::seed_from_u64(self.seed ^ part.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// Fills the store.
pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    or_interrupted(Box::pin(fill(args, context))).await
}

async fn fill(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let as_of = to_micros(args.as_of.unwrap_or(now));
    anyhow::ensure!(
        as_of <= now,
        "--as-of must not be in the future: it is {now}"
    );
    let config = checked(context.config, args.yes)?;
    let clock = HistoryClock::at(as_of);
    let store = Store::with_clock(config, Arc::new(clock.clone()))?;
    refuse_data(&store).await?;
    let started = Instant::now();
    let demo = Demo {
        store,
        clock,
        progress: Progress::new(),
        seed: args.seed,
        days: args.days,
        as_of,
    };
    let mut written = Written {
        from: demo.first_day(),
        as_of,
        seed: args.seed,
        ..Written::default()
    };
    mark(
        &demo,
        json!({ "state": "begun", "seed": args.seed, "days": args.days, "as_of": as_of }),
    )
    .await?;
    demo.lay(args.sample_minutes, &mut written).await?;
    written.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let told = serde_json::to_value(&written)?;
    demo.clock.set(as_of);
    mark(&demo, json!({ "state": "finished", "written": told })).await?;
    show(&written, &told, args.json)?;
    Ok(ExitCode::SUCCESS)
}

impl Demo {
    async fn lay(&self, sample_minutes: i64, written: &mut Written) -> anyhow::Result<()> {
        feedback::lay(self, written).await?;
        backfill::lay(self, written).await?;
        metrics::lay(self, sample_minutes, written).await?;
        self.clock.set(self.as_of);
        backups::lay(self, written).await?;
        schedule::lay(self, written).await?;
        trouble::lay(self, written).await?;
        self.clock.set(self.as_of);
        self.store.feedback().fold().await?;
        Ok(())
    }
}

/// The configuration, where it names all that is needed.
fn checked(config: Config, yes: bool) -> anyhow::Result<Config> {
    for (setting, is_set) in [
        ("database.url (DATABASE_URL)", config.database.url.is_some()),
        (
            "database.retention_url (UTXOIQ_STORE_DATABASE__RETENTION_URL)",
            config.database.retention_url.is_some(),
        ),
        (
            "cold.url (UTXOIQ_STORE_COLD__URL)",
            config.cold.url.is_some(),
        ),
    ] {
        anyhow::ensure!(
            is_set,
            "{setting} is not set, and `demo` archives what is old: `./dev up` prepares it, then `source .local/env`"
        );
    }
    let url = config.database.url()?;
    let is_here = DatabaseUrl::parse(url, "database.url")?.stays_on_this_machine();
    anyhow::ensure!(
        is_here || yes,
        "the database is on another machine: `demo --yes` fills it with made-up data, if that is what you mean"
    );
    Ok(Config {
        database: DatabaseSettings {
            pool_min: 1,
            statement_timeout_milliseconds: 600_000,
            url: config.database.url.as_ref().map(in_haste),
            retention_url: config.database.retention_url.as_ref().map(in_haste),
            ..config.database
        },
        // What changes in the database, servers hear of from the database.
        redis: RedisSettings {
            url: None,
            ..config.redis
        },
        backup: BackupSettings {
            // What is made under the clock of the night before last is alive now, too, for whoever watches.
            lease_seconds: 3 * 86_400,
            ..config.backup
        },
        ..config
    })
}

/// An address whose sessions do not wait for the disk at each of their thousands of commits: should the server crash meanwhile,
/// the demonstration is begun anew in any case.
fn in_haste(address: &Secret) -> Secret {
    let parsed = Url::parse(address.expose());
    let with_options = parsed.ok().filter(|url| {
        url.scheme().starts_with("postgres") && url.query_pairs().all(|(name, _)| name != "options")
    });
    match with_options {
        // As words, since a plus sign is none of libpq's ways to write a space.
        Some(mut url) => {
            let before = url
                .query()
                .map_or_else(String::new, |query| format!("{query}&"));
            url.set_query(Some(&format!(
                "{before}options=-c%20synchronous_commit%3Doff"
            )));
            Secret::new(url.as_str())
        }
        None => address.clone(),
    }
}

/// Refuses a database that is in use.
async fn refuse_data(store: &Store) -> anyhow::Result<()> {
    let connection = store.pool().get().await?;
    let found = db::query_one(&connection, &queries::WHAT_IS_THERE, &[])
        .await
        .context(
            "the database cannot be looked into: `utxoiq-store migrate up` makes its tables",
        )?;
    let marked: Option<String> = found.try_get("marked")?;
    let tables: Vec<String> = found.try_get("tables")?;
    if tables.is_empty() {
        return Ok(());
    }
    let begun = "start with a fresh database: `./dev reset && ./dev up`, or name another one";
    match marked.as_deref() {
        Some("finished") => {
            anyhow::bail!("this store has its demonstration data already: look at it, or {begun}")
        }
        Some(_) => anyhow::bail!(
            "an earlier `demo` of this store was interrupted, and cannot be gone on with: {begun}"
        ),
        None => anyhow::bail!(
            "this store has data of its own ({}), with which made-up data would mix for ever: {begun}",
            tables.join(", ")
        ),
    }
}

async fn mark(demo: &Demo, details: Value) -> anyhow::Result<()> {
    let at = demo.as_of;
    let entry = Entry::new(at, &actor(), Action::Demo, SUBJECT, details);
    demo.store.audit().append(&entry).await?;
    Ok(())
}

fn show(written: &Written, told: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        outln!("{}", serde_json::to_string_pretty(told)?);
        return Ok(());
    }
    outln!(
        "{} to {}: {} backfill jobs, {} ratings, comments and flags on {} insights, {} samples of {} series, {} archives, {} backups \
         and {} scheduled runs, in {} s",
        written.from,
        written.as_of.date_naive(),
        written.backfill_jobs,
        written.feedback,
        written.insights,
        written.samples,
        written.series,
        written.archives,
        written.backups,
        written.scheduled_runs,
        written.milliseconds / 1_000
    );
    for line in &written.notes {
        note(format_args!("note: {line}"));
    }
    if std::io::stdout().is_terminal() {
        note(
            "to see it: open the dashboard, or try `backfill status`, `feedback top`, `metrics top`, `archive list`, `audit list`",
        );
    }
    Ok(())
}
