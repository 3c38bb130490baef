//! `metrics import`: files of samples, of any length, into the service.
//!
//! A file is sent in pieces, several at once. Whatever ends it early, it is sent again whole: what is stored is not stored
//! twice, so that it goes on where it ended as fast as the service can say so.

mod pieces;
mod source;
mod tally;

use std::{
    pin::pin,
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use utxoiq_store::error::Error;
use utxoiq_store_server::api::metrics::wire::MetricsImported;

use self::{
    pieces::{Format, Piece, Pieces},
    tally::Tally,
};
use super::figures::count;
use crate::{
    client::{Api, Connection, Upload},
    output::{note, out, outln},
};

/// The exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// How long to wait where the service does not say.
const PAUSE: Duration = Duration::from_secs(1);

/// However soon the service says.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each sample needs its time. Interrupted, or with a service that went away: run it again, what is stored is not \
stored twice. Exits with 1 where a sample was rejected, or has another value than the stored one.

Examples:
  utxoiq-store metrics import 2026-03-*.csv.gz
  producer | utxoiq-store metrics import --format ndjson -

A CSV has the header service_name,metric_type,metric_value,unit,timestamp and, where wanted, labels and metadata (JSON \
objects); NDJSON has objects with the same names, metric_metadata for metadata, one a line."
)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Files, as they are or compressed with gzip; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// What they are written in; else by their names (.csv, .ndjson, .jsonl) or their first character
    #[arg(long, value_parser = ["csv", "ndjson"])]
    format: Option<String>,
    /// How many requests are under way at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    parallel: u8,
    /// How large a request's body is, in KiB; what the service finds too large is halved
    #[arg(long, default_value_t = 2_048, value_name = "KIB", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    piece: u32,
    /// For how many seconds to try again while the service takes nothing
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    patience: u32,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Imports.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    tokio::select! {
        done = import(args) => done,
        _ = tokio::signal::ctrl_c() => {
            note("interrupted: run it again to go on, what is stored is not stored twice");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

async fn import(args: Args) -> anyhow::Result<ExitCode> {
    let sender = Sender {
        api: Api::connect(&args.connection)?,
        patience: Duration::from_secs(args.patience.into()),
        last_taken: Mutex::new(None),
        progress: Progress::new(&args.files),
    };
    let format = args.format.as_deref().map(|format| match format {
        "csv" => Format::Csv,
        _ => Format::Ndjson,
    });
    for name in &args.files {
        source::check(name)?;
    }
    let mut tally = Tally::default();
    let mut ended = Ok(());
    for (file, name) in args.files.iter().enumerate() {
        ended = import_file(&sender, &args, format, file, &mut tally)
            .await
            .with_context(|| format!("{name} was not imported whole"));
        if ended.is_err() {
            break;
        }
    }
    sender.progress.end(tally.lines);
    if args.json {
        outln!(
            "{}",
            serde_json::to_string_pretty(&tally.json(&args.files))?
        );
    } else {
        out!("{}", tally.text(&args.files));
    }
    ended?;
    Ok(ExitCode::from(u8::from(!tally.is_clean())))
}

async fn import_file(
    sender: &Sender,
    args: &Args,
    format: Option<Format>,
    file: usize,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let name = &args.files[file];
    let source = source::open(name, format)?;
    let size = usize::try_from(args.piece)? << 10;
    let pieces = Pieces::new(source.text, source.format, size, source.read);
    let read = read(pieces, args.parallel.into())?;
    let read = stream::unfold(read, async |mut read| Some((read.recv().await?, read)));
    let sent = read.map(async |piece| sender.send(piece?).await);
    let mut sent = pin!(sent.buffer_unordered(args.parallel.into()));
    let lines = tally.lines;
    while let Some(sent) = sent.next().await {
        let Sent {
            too_long,
            taken,
            too_large,
            read,
        } = sent?;
        tally.add_too_long(file, &too_long);
        for (piece, answer) in &taken {
            tally.add(file, piece, answer);
        }
        for (piece, error) in &too_large {
            tally.add_too_large(file, piece, error.message());
        }
        sender.progress.add(read, tally.lines);
    }
    if tally.lines == lines {
        note(format_args!("{name} has no samples"));
    }
    Ok(())
}

/// Reads pieces in a thread of its own: standard input may block for ever, and must not keep the program from ending.
fn read(
    mut pieces: Pieces<Box<dyn std::io::BufRead + Send>>,
    ahead: usize,
) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Piece>>> {
    let (to, from) = mpsc::channel(ahead);
    let reading = move || {
        loop {
            let next = pieces.next().context("it cannot be read");
            let is_last = !matches!(next, Ok(Some(_)));
            // Nobody takes it where another piece has failed.
            if let Some(piece) = next.transpose()
                && to.blocking_send(piece).is_err()
            {
                return;
            }
            if is_last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("import".into())
        .spawn(reading)
        .context("no thread for reading")?;
    Ok(from)
}

/// What became of a piece, or of its halves.
struct Sent {
    too_long: Vec<u64>,
    taken: Vec<(Piece, MetricsImported)>,
    too_large: Vec<(Piece, Error)>,
    read: u64,
}

/// Sends pieces until they are taken.
struct Sender {
    api: Api,
    patience: Duration,
    /// When a piece was last taken.
    last_taken: Mutex<Option<Instant>>,
    progress: Progress,
}

impl Sender {
    async fn send(&self, mut piece: Piece) -> anyhow::Result<Sent> {
        let mut sent = Sent {
            too_long: std::mem::take(&mut piece.too_long),
            taken: Vec::new(),
            too_large: Vec::new(),
            read: piece.read,
        };
        let mut to_send = vec![piece];
        while let Some(piece) = to_send.pop() {
            if piece.is_blank() && piece.header.is_empty() {
                continue;
            }
            match self.send_until_taken(&piece).await? {
                Ok(answer) => sent.taken.push((piece, answer)),
                Err(too_large) => match piece.halves() {
                    Some((first, second)) => to_send.extend([second, first]),
                    None => sent.too_large.push((piece, too_large)),
                },
            }
        }
        Ok(sent)
    }

    /// The service's answer, or that a piece is too large.
    async fn send_until_taken(
        &self,
        piece: &Piece,
    ) -> anyhow::Result<Result<MetricsImported, Error>> {
        let began = Instant::now();
        let (call, content_type) = ("monitoring/metrics/import", piece.format.content_type());
        loop {
            let (why, after) = match self.api.upload(call, content_type, piece.body()).await? {
                Upload::Taken(answer) => {
                    self.note_taken();
                    return Ok(Ok(answer));
                }
                Upload::TooLarge(error) => return Ok(Err(error)),
                Upload::NotNow {
                    why,
                    after,
                    is_away,
                } => {
                    // With an address that was never right there is nothing to wait for.
                    if is_away && self.last_taken().is_none() {
                        return Err(why.into());
                    }
                    (why, after)
                }
            };
            let since = self.last_taken().map_or(began, |taken| taken.max(began));
            if since.elapsed() > self.patience {
                return Err(anyhow::Error::new(why).context(format!(
                    "the service took nothing for {} seconds; run it again later, what is stored is not stored twice",
                    self.patience.as_secs()
                )));
            }
            self.progress.say(why.message());
            let pause = after.unwrap_or(PAUSE).min(self.patience);
            tokio::time::sleep(pause.max(LEAST_PAUSE)).await;
        }
    }

    fn last_taken(&self) -> Option<Instant> {
        let last = self.last_taken.lock();
        *last.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note_taken(&self) {
        let last = self.last_taken.lock();
        *last.unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The bar on a terminal; elsewhere a line now and then.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    last_line: Mutex<Instant>,
    total: Option<u64>,
}

impl Progress {
    fn new(files: &[String]) -> Self {
        let total = files.iter().map(|name| source::length(name)).sum();
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let form = match total {
            Some(_) => "[{wide_bar}] {bytes}/{total_bytes}  {msg}",
            None => "{spinner} {bytes}  {msg}",
        };
        let style = ProgressStyle::with_template(form)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        bar.set_style(style);
        Self {
            bar,
            began: Instant::now(),
            last_line: Mutex::new(Instant::now()),
            total,
        }
    }

    fn add(&self, bytes: u64, samples: u64) {
        self.bar.inc(bytes);
        self.bar.set_message(self.rate(samples));
        if self.bar.is_hidden() && self.is_due() {
            let of = self
                .total
                .map_or_else(String::new, |total| format!(" of {}", count(total)));
            let at = count(self.bar.position());
            note(format_args!("{at}{of} bytes, {}", self.rate(samples)));
        }
    }

    /// `1,234 samples, 567/s`
    fn rate(&self, samples: u64) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        // A rate is neither negative nor beyond what can be counted.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = (samples as f64 / seconds) as u64;
        format!("{} samples, {}/s", count(samples), count(rate))
    }

    fn is_due(&self) -> bool {
        let last = self.last_line.lock();
        let mut last = last.unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = last.elapsed() >= LINE_EVERY;
        if is_due {
            *last = Instant::now();
        }
        is_due
    }

    /// Says why it waits.
    fn say(&self, why: &str) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("waiting: {why}"));
        } else if self.is_due() {
            note(format_args!("waiting: {why}"));
        }
    }

    fn end(&self, samples: u64) {
        self.bar.finish_and_clear();
        note(self.rate(samples));
    }
}
