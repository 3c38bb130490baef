//! `feedback export`: all feedback that matches, to standard output or a file.
//!
//! A file appears under its name when it is complete ([`crate::target`]). What goes to standard output is there at once; the
//! exit code says whether it is all there is.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;

use super::Conditions;
use crate::{
    client::{Api, Connection, Download},
    output::note,
    target::{Target, or_interrupted},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The format
    #[arg(long, default_value = "csv", value_parser = ["csv", "ndjson"])]
    format: String,
    /// JSON lines: the same as --format ndjson
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    conditions: Conditions,
    /// The file to write, readable by its owner only; standard output where it is not given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
}

/// Exports. Interrupted, it leaves no file.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    or_interrupted(async { export(args).await.map(|()| ExitCode::SUCCESS) }).await
}

async fn export(args: Args) -> anyhow::Result<()> {
    let target = args
        .output
        .as_deref()
        .map(|path| Target::new(path, args.force));
    let mut target = target.transpose()?;
    let api = Api::connect(&args.connection)?;
    let format = if args.json { "ndjson" } else { &args.format };
    let mut query = vec![("format", format.to_owned())];
    query.extend(args.conditions.parameters());
    let mut download = api.download("feedback/export", &query).await?;
    let mut rows = Rows::new(format);
    while let Some(piece) = download.next().await? {
        rows.count(piece.as_ref());
        match &mut target {
            Some(target) => target.write(piece.as_ref())?,
            None => io::stdout().lock().write_all(piece.as_ref())?,
        }
    }
    io::stdout().lock().flush()?;
    rows.check(&download)?;
    if let Some(target) = target {
        let path = target.finish()?;
        note(format_args!("{} rows in {}", rows.counted, path.display()));
    }
    Ok(())
}

/// How many rows have come, against how many the service announced: a proxy on the way may have ended what the service had
/// cut off.
struct Rows {
    /// A line's end within quotes is none.
    has_quotes: bool,
    in_quotes: bool,
    headers: u64,
    lines: u64,
    counted: u64,
}

impl Rows {
    fn new(format: &str) -> Self {
        let is_csv = format == "csv";
        Self {
            has_quotes: is_csv,
            in_quotes: false,
            headers: u64::from(is_csv),
            lines: 0,
            counted: 0,
        }
    }

    fn count(&mut self, piece: &[u8]) {
        for byte in piece {
            match byte {
                b'"' if self.has_quotes => self.in_quotes = !self.in_quotes,
                b'\n' if !self.in_quotes => self.lines += 1,
                _ => {}
            }
        }
        self.counted = self.lines.saturating_sub(self.headers);
    }

    fn check(&self, download: &Download) -> anyhow::Result<()> {
        let announced = download
            .header("export-rows")
            .and_then(|rows| rows.parse::<u64>().ok())
            .context(
                "the answer does not say how many rows it has: is this the service's address?",
            )?;
        anyhow::ensure!(
            announced == self.counted && !self.in_quotes,
            "the export was cut off: {} of {announced} rows came",
            self.counted
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_however_the_pieces_are_cut() {
        let csv = b"id,comment\r\n1,\"two\r\nlines, \"\"quoted\"\"\r\n\"\r\n2,plain\r\n";
        let ndjson = b"{\"a\": \"\\\"\"}\n{\"a\": \"\\n\"}\n";
        for (format, text) in [("csv", &csv[..]), ("ndjson", &ndjson[..])] {
            for size in 1..text.len() {
                let mut rows = Rows::new(format);
                for piece in text.chunks(size) {
                    rows.count(piece);
                }
                assert_eq!(
                    (rows.counted, rows.in_quotes),
                    (2, false),
                    "{format} {size}"
                );
            }
        }
        let mut empty = Rows::new("csv");
        empty.count(b"id,comment\r\n");
        assert_eq!(empty.counted, 0);
    }
}
