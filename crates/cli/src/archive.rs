//! `utxoiq-store archive`: what is in cold storage: where, whether it is whole, asked with SQL, and brought back.
//!
//! Over the connection of the role that archives, as these commands are needed also where no service runs.

mod query;
mod show;

use std::process::ExitCode;

use chrono::NaiveDate;
use utxoiq_store::{
    Store,
    cold::Dataset,
    retention::{
        ArchiveCursor, ArchiveFilter, ArchiveView, MAX_HOLD_DAYS, MAX_PAGE, Restorable, State,
        Which,
    },
};
use uuid::Uuid;

use crate::{
    Context,
    operator::actor,
    output::{note, out, outln},
    retention::progress,
    target::or_interrupted,
};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List archives by day
    List(List),
    /// Show one archive: its state, hashes and times, and its manifest
    Show {
        /// Its id
        id: Uuid,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read archives back from the store and compare them with their manifests; exits with 1 where something is wrong
    Verify(Verify),
    /// Ask the archives with SQL, through DuckDB's command line
    Query(query::Args),
    /// Bring archived rows back into the database, and hold their day there
    Restore(Restore),
    /// Say where a day's rows are, with the proof from the audit log
    WhereIs {
        /// The day (UTC), such as 2025-08-14
        day: NaiveDate,
        /// Only of this dataset: metrics, backfill_jobs, feedback or feedback_history
        #[arg(long, value_parser = dataset)]
        dataset: Option<Dataset>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    days: Days,
    /// Only in this state: archived, expired, replaced, restored, abandoned, …
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=MAX_PAGE))]
    limit: i64,
    /// Where to go on: what the page before named
    #[arg(long)]
    cursor: Option<ArchiveCursor>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Which archives.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Days {
    /// Only of this dataset: metrics, backfill_jobs, feedback or feedback_history
    #[arg(long, value_parser = dataset)]
    dataset: Option<Dataset>,
    /// Of this day (UTC) and later ones
    #[arg(long, value_name = "DAY")]
    from: Option<NaiveDate>,
    /// Of days before this one
    #[arg(long, value_name = "DAY")]
    to: Option<NaiveDate>,
}

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  utxoiq-store archive verify                                      all archives, and what else lies in the store
  utxoiq-store archive verify --from 2025-08-01 --to 2025-09-01
  utxoiq-store archive verify 019c2f6e-1d7e-7c3a-8a55-0a52ed3c4b1f")]
pub struct Verify {
    /// Only this archive
    #[arg(conflicts_with_all = ["from", "to"])]
    id: Option<Uuid>,
    /// Only of this day (UTC) and later ones
    #[arg(long, value_name = "DAY", requires = "to")]
    from: Option<NaiveDate>,
    /// Only of days before this one
    #[arg(long, value_name = "DAY", requires = "from")]
    to: Option<NaiveDate>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is restored stays in the database until the hold ends or is released (`retention hold list`), \
                        and is archived anew by the next run after that.

Examples:
  utxoiq-store archive restore --dataset metrics --day 2025-08-14 --reason \"case 12\"
  utxoiq-store archive restore 019c2f6e-1d7e-7c3a-8a55-0a52ed3c4b1f --hold-days 7 --reason audit"
)]
pub struct Restore {
    /// One archive
    #[arg(required_unless_present = "day", conflicts_with_all = ["day", "dataset"])]
    id: Option<Uuid>,
    /// All archives of this dataset's day
    #[arg(long, value_parser = dataset, requires = "day")]
    dataset: Option<Dataset>,
    /// The day (UTC)
    #[arg(long, requires = "dataset")]
    day: Option<NaiveDate>,
    /// For how many days it is kept in the database
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_HOLD_DAYS)))]
    hold_days: u32,
    /// Why: goes into the audit log
    #[arg(long)]
    reason: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Days {
    fn filter(self, state: Option<State>) -> ArchiveFilter {
        ArchiveFilter {
            dataset: self.dataset,
            from: self.from,
            to: self.to,
            state,
        }
    }
}

fn dataset(text: &str) -> Result<Dataset, String> {
    Dataset::from_name(text).ok_or_else(|| {
        let known = Dataset::ALL.map(Dataset::name).join(", ");
        format!("must be one of {known}")
    })
}

fn state(text: &str) -> Result<State, String> {
    let known = State::ALL.into_iter().find(|state| state.name() == text);
    known.ok_or_else(|| format!("must be one of {}", State::ALL.map(State::name).join(", ")))
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.config)?;
    match command {
        Command::List(args) => list(&store, args).await?,
        Command::Show { id, json } => show_one(&store, id, json).await?,
        Command::Verify(args) => return verify(&store, args).await,
        Command::Query(args) => return or_interrupted(query::run(&store, args)).await,
        Command::Restore(args) => restore(&store, args).await?,
        Command::WhereIs { day, dataset, json } => {
            let found = store.retention()?.where_is(day, dataset).await?;
            if json {
                outln!("{}", serde_json::to_string_pretty(&found)?);
            } else {
                out!("{}", show::whereabouts(&found));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(store: &Store, args: List) -> anyhow::Result<()> {
    let filter = args.days.filter(args.state);
    let retention = store.retention()?;
    let page = retention.archives(&filter, args.limit, args.cursor).await?;
    if args.json {
        let next = page.next.map(|next| next.to_string());
        let page = serde_json::json!({ "archives": page.archives, "next_cursor": next });
        outln!("{}", serde_json::to_string_pretty(&page)?);
        return Ok(());
    }
    if page.archives.is_empty() {
        note("there is no such archive");
        return Ok(());
    }
    out!("{}", show::archives(&page.archives));
    if let Some(next) = page.next {
        note(format_args!("there are more: --cursor {next}"));
    }
    Ok(())
}

async fn show_one(store: &Store, id: Uuid, json: bool) -> anyhow::Result<()> {
    let archive = store.retention()?.archive(id).await?;
    let view = ArchiveView::from(&archive);
    let manifest = archive.manifest.is_some().then(|| archive.manifest());
    let manifest = manifest.transpose()?;
    if json {
        let mut shown = serde_json::to_value(&view)?;
        shown["manifest"] = serde_json::to_value(&manifest)?;
        outln!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        out!("{}", show::archive(&view, manifest.as_ref()));
    }
    Ok(())
}

async fn verify(store: &Store, args: Verify) -> anyhow::Result<ExitCode> {
    let which = match (args.id, args.from, args.to) {
        (Some(id), _, _) => Which::One(id),
        (None, Some(from), Some(to)) => Which::Days(from, to),
        _ => Which::All,
    };
    let (events, progress) = progress::start();
    let retention = store.retention()?.watched_by(events);
    let verified = retention.verify(which, store.now(), &actor()).await;
    drop(retention);
    progress.finish().await;
    let verified = verified?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&verified)?);
    } else {
        out!("{}", show::verified(&verified));
    }
    Ok(ExitCode::from(u8::from(!verified.is_sound())))
}

async fn restore(store: &Store, args: Restore) -> anyhow::Result<()> {
    let what = match (args.id, args.dataset, args.day) {
        (None, Some(dataset), Some(day)) => Restorable::Day(dataset, day),
        (Some(id), ..) => Restorable::Archive(id),
        _ => anyhow::bail!("name an archive, or --dataset and --day"),
    };
    let (events, progress) = progress::start();
    let retention = store.retention()?.watched_by(events);
    let restored = retention
        .restore(what, args.hold_days, &args.reason, store.now(), &actor())
        .await;
    drop(retention);
    progress.finish().await;
    let restored = restored?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&restored)?);
    } else {
        outln!(
            "{} rows of {} of {} are in the database again; they are held there until {} (hold {})",
            restored.rows,
            restored.dataset,
            restored.day,
            show::short(restored.held_until),
            restored.hold
        );
    }
    Ok(())
}
