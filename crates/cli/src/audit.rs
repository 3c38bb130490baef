//! `utxoiq-store audit`: the audit log, directly on the database: it has to be verified also where no service runs.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use utxoiq_store::{
    audit::{Action, Anchor, Audit, Filter, MAX_PAGE, Record, Verification, Verifier, hex},
    backup::{self, BackupStores, Manifest},
    config::Config,
    db::Pool,
};

use crate::{
    Context,
    metrics::moment,
    output::{note, outln, plain},
    table::{Side, table},
    target::{Target, or_interrupted},
    token::administrative,
};

/// How many characters of an entry's details a table shows.
const SHOWN_DETAILS: usize = 120;

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List entries, the newest first
    List(List),
    /// Verify the whole chain; exits with 1 where it is broken, and says what is wrong
    Verify(Verify),
    /// Write every entry as a line of JSON, and the head as the last one
    Export(Export),
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only this action: archive, drop, delete, hold_add, denied, …
    #[arg(long)]
    action: Option<Action>,
    /// Only subjects that begin like this
    #[arg(long, value_name = "BEGINNING")]
    subject: Option<String>,
    /// Only what this one did
    #[arg(long)]
    actor: Option<String>,
    /// From this time or day (UTC) on
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<DateTime<Utc>>,
    /// Before this time or day (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<DateTime<Utc>>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A head anchor is the log's head (SEQUENCE:HASH) as it once was, kept where nobody who can write the database \
                  can change it: in the manifests of archives and backups, or in a mail. It proves every entry up to its \
                  number. Without one, two things cannot be seen: an end that was cut off together with the head row, and a \
                  log that was written anew with hashes that agree. So keep the head that this command prints.

Examples:
  utxoiq-store audit verify
  utxoiq-store audit verify --anchor 1204:5f1c...
  utxoiq-store audit verify --anchors heads.jsonl      one {\"sequence\": ..., \"hash\": \"...\", \"found_in\": \"...\"} a line"
)]
pub struct Verify {
    /// A head that was kept; may be given several times
    #[arg(long, value_name = "SEQUENCE:HASH")]
    anchor: Vec<Anchor>,
    /// A file with heads that were kept, an object of JSON a line
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// Compare with the heads that the manifests of the backups have, too: those show an end that was cut off
    #[arg(long)]
    backups: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The file to write, readable by its owner only; standard output where it is not given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// JSON lines, as in any case
    #[arg(long)]
    json: bool,
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    let pool = Pool::open(&administrative(&context.config.database)?)?;
    let audit = Audit::new(&pool);
    match command {
        Command::List(args) => list(audit, args).await,
        Command::Verify(args) => verify(audit, args, &context.config).await,
        Command::Export(args) => or_interrupted(export(audit, args)).await,
    }
}

async fn list(audit: Audit<'_>, args: List) -> anyhow::Result<ExitCode> {
    let filter = Filter {
        action: args.action,
        subject_prefix: args.subject,
        actor: args.actor,
        from: args.from,
        to: args.to,
    };
    let (mut left, mut after) = (i64::from(args.limit), None);
    let mut shown = 0;
    while left > 0 {
        let page = audit.list(&filter, left.min(MAX_PAGE), after).await?;
        let found = page.entries.len();
        shown += found;
        left -= i64::try_from(found)?;
        if args.json {
            for entry in &page.entries {
                outln!("{}", as_json(entry));
            }
        } else if found > 0 {
            outln!("{}", rows(&page.entries).trim_end());
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if shown == 0 {
        note("no entry matches");
    } else if after.is_some() {
        note(format_args!("there are more: raise --limit above {shown}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(entry: &Record) -> Value {
    let details = serde_json::from_str(&entry.details);
    json!({
        "sequence": entry.sequence,
        "at": entry.at_text(),
        "actor": entry.actor,
        "database_role": entry.database_role,
        "action": entry.action,
        "subject": entry.subject,
        "details": details.unwrap_or(Value::String(entry.details.clone())),
        "previous_hash": hex(&entry.previous_hash),
        "hash": hex(&entry.hash),
    })
}

/// As much of the details as a line has room for; `--json` has all.
fn shortened(details: &str) -> String {
    match details.char_indices().nth(SHOWN_DETAILS) {
        None => details.to_owned(),
        Some((end, _)) => format!("{}…", &details[..end]),
    }
}

fn rows(entries: &[Record]) -> String {
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|entry| {
            let at = entry
                .at()
                .map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
            [
                entry.sequence.to_string(),
                at.unwrap_or_else(|| "no time".to_owned()),
                plain(&entry.actor),
                plain(&entry.action),
                plain(&entry.subject),
                shortened(&plain(&entry.details)),
            ]
        })
        .collect();
    let columns = [
        ("ENTRY", Side::Right),
        ("AT (UTC)", Side::Left),
        ("ACTOR", Side::Left),
        ("ACTION", Side::Left),
        ("SUBJECT", Side::Left),
        ("DETAILS", Side::Left),
    ];
    table(columns, &rows)
}

async fn verify(audit: Audit<'_>, args: Verify, config: &Config) -> anyhow::Result<ExitCode> {
    let mut anchors = args.anchor;
    if let Some(file) = &args.anchors {
        anchors.extend(anchors_of(file)?);
    }
    if args.backups {
        anchors.extend(anchors_of_backups(config).await?);
    }
    let mut reading = audit.read().await?;
    let head = reading.head().cloned();
    let announced = head.as_ref().map_or(0, |head| head.sequence);
    let bar =
        ProgressBar::with_draw_target(announced.try_into().ok(), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("[{wide_bar}] {pos}/{len} entries")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    bar.set_style(style);
    let mut verifier = Verifier::new(head, &anchors);
    while let Some(entries) = reading.next().await? {
        bar.inc(entries.len() as u64);
        for entry in entries {
            verifier.push(entry);
        }
    }
    bar.finish_and_clear();
    let verification = verifier.finish();
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&told(&verification))?);
    } else {
        tell(&verification)?;
    }
    Ok(ExitCode::from(u8::from(!verification.is_clean())))
}

/// The heads of the log that the backups in the stores have kept; whoever changes the log cannot reach them there.
async fn anchors_of_backups(config: &Config) -> anyhow::Result<Vec<Anchor>> {
    let stores = BackupStores::open(config)?;
    let bucket = stores
        .first
        .context("there are no backups to compare with: set backup_store.url")?;
    let mut anchors = Vec::new();
    for key in backup::stored(&bucket).await? {
        let (manifest, _) = match Manifest::get(&bucket, key).await {
            Ok(found) => found,
            Err(error) => {
                note(format_args!("{}: {error}", key.manifest()));
                continue;
            }
        };
        if let Some(head) = manifest.audit_head {
            let mut anchor: Anchor = format!("{}:{}", head.sequence, head.hash).parse()?;
            anchor.found_in = key.manifest().to_string();
            anchors.push(anchor);
        }
    }
    Ok(anchors)
}

fn told(verification: &Verification) -> Value {
    let faults = verification.faults.iter().map(|fault| {
        let (first, last) = fault.sequences();
        json!({"fault": fault.name(), "first": first, "last": last, "message": fault.to_string()})
    });
    let head = verification.head.as_ref();
    json!({
        "valid": verification.is_clean(),
        "entries": verification.entries,
        "head": head.map(|head| json!({"sequence": head.sequence, "hash": hex(&head.hash)})),
        "anchors_agreed": verification.anchors_agreed,
        "faults": faults.collect::<Vec<_>>(),
        "faults_total": verification.faults_total,
    })
}

fn tell(verification: &Verification) -> anyhow::Result<()> {
    let head = verification.head.as_ref();
    let head = head.map_or_else(|| "missing".to_owned(), ToString::to_string);
    let entries = verification.entries;
    if verification.is_clean() {
        outln!("the chain of {entries} entries is whole; its head is {head}");
        match verification.anchors_agreed {
            0 => outln!(
                "no anchor was given: an end that was cut off, or a log written anew, would not be seen"
            ),
            agreed => outln!("it agrees with {agreed} anchors"),
        }
        return Ok(());
    }
    outln!("the chain of {entries} entries is broken; its head is {head}");
    for fault in &verification.faults {
        outln!("{}: {}", fault.name(), plain(&fault.to_string()));
    }
    let more = verification.faults_total - verification.faults.len() as u64;
    if more > 0 {
        outln!("and {more} more");
    }
    outln!("change nothing, export the log as it is, and see docs/operations/audit.md");
    Ok(())
}

/// A line of a file with anchors; what else is on it is no matter.
#[derive(Deserialize)]
struct Line {
    sequence: i64,
    hash: String,
    found_in: Option<String>,
}

fn anchors_of(file: &Path) -> anyhow::Result<Vec<Anchor>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let place = format!("{} line {}", file.display(), index + 1);
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("{place} must be an object with sequence and hash"))?;
            let anchor: Anchor = format!("{}:{}", line.sequence, line.hash)
                .parse()
                .with_context(|| place.clone())?;
            Ok(Anchor {
                found_in: line.found_in.unwrap_or(place),
                ..anchor
            })
        })
        .collect()
}

async fn export(audit: Audit<'_>, args: Export) -> anyhow::Result<ExitCode> {
    let target = args.output.as_deref();
    let mut target = target
        .map(|path| Target::new(path, args.force))
        .transpose()?;
    let mut export = audit.export().await?;
    while let Some(lines) = export.next().await? {
        match &mut target {
            Some(target) => target.write(&lines)?,
            None => io::stdout().lock().write_all(&lines)?,
        }
    }
    io::stdout().lock().flush()?;
    if let Some(target) = target {
        let path = target.finish()?;
        note(format_args!(
            "{} entries in {}",
            export.entries(),
            path.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
