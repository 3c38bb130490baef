//! Files as they lie there: plain or compressed, and standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;

use super::pieces::Format;

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// The first bytes of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file that is being read.
pub struct Source {
    pub text: Box<dyn BufRead + Send>,
    pub format: Format,
    /// How many of its bytes were read, as they lie there.
    pub read: Arc<AtomicU64>,
}

/// How long a file is; `None` for standard input and the like.
pub fn length(name: &str) -> Option<u64> {
    let metadata = Path::new(name).metadata().ok()?;
    (name != "-" && metadata.is_file()).then_some(metadata.len())
}

/// Refuses what cannot be read, before anything is sent. A pipe is not opened: what is read of it is gone.
pub fn check(name: &str) -> anyhow::Result<()> {
    if name == "-" {
        return Ok(());
    }
    let failed = || format!("{name} cannot be read");
    let metadata = Path::new(name).metadata().with_context(failed)?;
    anyhow::ensure!(!metadata.is_dir(), "{name} is a folder: name files");
    if metadata.is_file() {
        File::open(name).with_context(failed)?;
    }
    Ok(())
}

/// Opens a file; `-` is standard input.
pub fn open(name: &str, format: Option<Format>) -> anyhow::Result<Source> {
    let source: Box<dyn Read + Send> = if name == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(name).with_context(|| format!("{name} cannot be read"))?)
    };
    let read = Arc::<AtomicU64>::default();
    let counted = Counted {
        source,
        read: Arc::clone(&read),
    };
    let failed = || format!("{name} cannot be read");
    let mut plain = BufReader::with_capacity(BUFFER, counted);
    // Enough to know it by: a pipe may give a byte at a time.
    let mut head = Vec::new();
    plain
        .by_ref()
        .take(2)
        .read_to_end(&mut head)
        .with_context(failed)?;
    let is_gzip = head == GZIP;
    let whole = io::Cursor::new(head).chain(plain);
    let mut text: Box<dyn BufRead + Send> = if is_gzip {
        let decoder = MultiGzDecoder::new(BufReader::new(whole));
        Box::new(BufReader::with_capacity(BUFFER, decoder))
    } else {
        Box::new(BufReader::with_capacity(BUFFER, whole))
    };
    let format = match format.or_else(|| by_name(name)) {
        Some(format) => format,
        None => by_look(text.fill_buf().with_context(failed)?),
    };
    Ok(Source { text, format, read })
}

fn by_name(name: &str) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match Path::new(name).extension()?.to_str()? {
        "csv" => Some(Format::Csv),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        _ => None,
    }
}

/// A line of NDJSON begins with a brace; no header does.
fn by_look(text: &[u8]) -> Format {
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Format::Ndjson,
        _ => Format::Csv,
    }
}

struct Counted<R> {
    source: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read
            .fetch_add(u64::try_from(count).unwrap_or_default(), Relaxed);
        Ok(count)
    }
}
