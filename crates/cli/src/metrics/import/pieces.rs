//! A file in pieces that one request takes, cut between rows.
//!
//! Memory is bounded whatever the file is: a row that is longer than [`MAX_ROW`] is passed over and told, as is one that a
//! forgotten quote makes of the rest of a file.

use std::{
    io::{self, BufRead},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The longest row, in bytes.
pub const MAX_ROW: usize = 1 << 20;

/// The most rows of a piece: half of what a request may bring.
const MAX_ROWS: usize = 50_000;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header, then a sample a row.
    Csv,
    /// A sample a line.
    Ndjson,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// Some rows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub format: Format,
    /// The header of a CSV, with its line's end.
    pub header: Arc<[u8]>,
    /// The rows, whole.
    pub rows: Vec<u8>,
    /// The line of the file that the first row begins in.
    pub first_line: u64,
    /// The lines where rows begin that are too long.
    pub too_long: Vec<u64>,
    /// How many bytes of the file were read for it.
    pub read: u64,
}

impl Piece {
    /// The body of its request.
    pub fn body(&self) -> Vec<u8> {
        [&self.header[..], &self.rows].concat()
    }

    /// Whether there is nothing to send.
    pub fn is_blank(&self) -> bool {
        self.rows.iter().all(u8::is_ascii_whitespace)
    }

    /// The line of the file that is a line of the body.
    pub fn line(&self, of_body: u64) -> u64 {
        let header = lines(&self.header);
        if of_body <= header {
            of_body
        } else {
            self.first_line + (of_body - header - 1)
        }
    }

    /// Two pieces of about half its rows; none where it is one row.
    pub fn halves(&self) -> Option<(Self, Self)> {
        let mut state = State::Begin;
        let middle = self.rows.len() / 2;
        let mut cut = None;
        for (index, byte) in self.rows.iter().enumerate() {
            let ends = state.ends_row(self.format, *byte) && index + 1 < self.rows.len();
            if ends && (index < middle || cut.is_none()) {
                cut = Some(index + 1);
            }
        }
        let (first, second) = self.rows.split_at_checked(cut?)?;
        let half = |rows: &[u8], first_line| Self {
            rows: rows.to_vec(),
            first_line,
            too_long: Vec::new(),
            read: 0,
            ..self.clone()
        };
        let after = self.first_line + lines(first);
        Some((half(first, self.first_line), half(second, after)))
    }
}

fn lines(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Where in a row a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning of a cell.
    Begin,
    /// In a cell without quotes; a quote is a character there.
    Plain,
    Quoted,
    /// After a quote in a quoted cell: the cell's end, or the first of two.
    Quote,
}

impl State {
    /// Takes a byte; says whether a row ends with it.
    fn ends_row(&mut self, format: Format, byte: u8) -> bool {
        if format == Format::Ndjson {
            return byte == b'\n';
        }
        *self = match (*self, byte) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) | (Self::Begin | Self::Quote, b'"') => Self::Quoted,
            (_, b',' | b'\n' | b'\r') => Self::Begin,
            _ => Self::Plain,
        };
        byte == b'\n' && *self == Self::Begin
    }
}

/// The pieces of a file.
pub struct Pieces<R> {
    source: R,
    format: Format,
    /// How many bytes a body has, about.
    size: usize,
    /// How many bytes of the file were read, as it lies there.
    read: Arc<AtomicU64>,
    told: u64,
    header: Arc<[u8]>,
    line: u64,
    /// A row that was read and did not fit.
    left: Option<Row>,
    is_begun: bool,
}

/// A row as it was read.
struct Row {
    bytes: Vec<u8>,
    lines: u64,
    is_too_long: bool,
}

impl<R: BufRead> Pieces<R> {
    pub fn new(source: R, format: Format, size: usize, read: Arc<AtomicU64>) -> Self {
        Self {
            source,
            format,
            size,
            read,
            told: 0,
            header: Arc::new([]),
            line: 1,
            left: None,
            is_begun: false,
        }
    }

    /// The next piece; none at the end.
    pub fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.format == Format::Csv && !self.is_begun {
            self.read_header()?;
        }
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        let mut piece = Piece {
            format: self.format,
            header: Arc::clone(&self.header),
            rows: Vec::new(),
            first_line: self.line,
            too_long: Vec::new(),
            read: 0,
        };
        let mut count = 0;
        while let Some(row) = self.next_row()? {
            if row.is_too_long {
                // The lines after it are counted from a piece of their own.
                if !piece.rows.is_empty() {
                    self.left = Some(row);
                    break;
                }
                piece.too_long.push(self.line);
                self.line += row.lines;
                piece.first_line = self.line;
                continue;
            }
            let size = piece.header.len() + piece.rows.len() + row.bytes.len();
            if count > 0 && (size > self.size || count >= MAX_ROWS) {
                self.left = Some(row);
                break;
            }
            count += 1;
            self.line += row.lines;
            piece.rows.extend_from_slice(&row.bytes);
        }
        let read = self.read.load(Relaxed);
        piece.read = read - std::mem::replace(&mut self.told, read);
        // A header alone is sent, too: the service says whether it is right.
        let has_header = is_first && !piece.header.is_empty();
        let is_end = piece.rows.is_empty() && piece.too_long.is_empty() && !has_header;
        Ok((!is_end).then_some(piece))
    }

    fn read_header(&mut self) -> io::Result<()> {
        let Some(mut row) = self.next_row()? else {
            return Ok(());
        };
        if row.is_too_long {
            return Err(io::Error::other(format!(
                "its header is longer than {MAX_ROW} bytes: is it a CSV?"
            )));
        }
        if !row.bytes.ends_with(b"\n") {
            row.bytes.push(b'\n');
        }
        self.line += row.lines;
        self.header = row.bytes.into();
        Ok(())
    }

    fn next_row(&mut self) -> io::Result<Option<Row>> {
        if let Some(left) = self.left.take() {
            return Ok(Some(left));
        }
        let mut row = Row {
            bytes: Vec::new(),
            lines: 0,
            is_too_long: false,
        };
        let mut state = State::Begin;
        let mut has_any = false;
        loop {
            let there = match self.source.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                there => there?,
            };
            if there.is_empty() {
                break;
            }
            has_any = true;
            let end = there
                .iter()
                .position(|byte| state.ends_row(self.format, *byte));
            let taken = end.map_or(there.len(), |end| end + 1);
            row.lines += lines(&there[..taken]);
            if row.bytes.len() + taken > MAX_ROW {
                row.is_too_long = true;
                row.bytes = Vec::new();
            }
            if !row.is_too_long {
                row.bytes.extend_from_slice(&there[..taken]);
            }
            self.source.consume(taken);
            if end.is_some() {
                break;
            }
        }
        Ok(has_any.then_some(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(format: Format, size: usize, text: &[u8]) -> Vec<Piece> {
        let mut pieces = Pieces::new(text, format, size, Arc::default());
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().unwrap() {
            all.push(piece);
        }
        all
    }

    /// Each line of the pieces with its number in the file.
    fn rows(pieces: &[Piece]) -> Vec<(u64, String)> {
        let all = pieces.iter().flat_map(|piece| {
            let text = String::from_utf8(piece.rows.clone()).unwrap();
            let texts: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
            (lines(&piece.header) + 1..)
                .zip(texts)
                .map(|(line, text)| (piece.line(line), text))
        });
        all.collect()
    }

    #[test]
    fn a_csv_is_cut_between_rows_and_lines_keep_their_numbers() {
        let text =
            "\u{feff}a,\"b\nc\"\r\n1,\"x\ny, \"\"z\"\"\n\"\r\n2,5\"\n\n3,\"\",\"\"\"\"\n4,last";
        let whole = pieces(Format::Csv, 1 << 20, text.as_bytes());
        assert_eq!(whole.len(), 1);
        assert_eq!(
            (whole[0].first_line, whole[0].body()),
            (3, text.as_bytes().to_vec())
        );
        let expected = rows(&whole);
        for size in 1..60 {
            let cut = pieces(Format::Csv, size, text.as_bytes());
            assert_eq!(rows(&cut), expected, "{size}");
            assert!(cut.iter().all(|piece| piece.header == whole[0].header));
        }
        assert_eq!(pieces(Format::Csv, 1, text.as_bytes()).len(), 5);
        // A header's own lines are those of the file.
        assert_eq!((whole[0].line(2), whole[0].line(3)), (2, 3));
        // In halves down to single rows.
        let mut halves = whole;
        while let Some(at) = halves.iter().position(|piece| piece.halves().is_some()) {
            let (first, second) = halves[at].halves().unwrap();
            halves.splice(at..=at, [first, second]);
        }
        assert_eq!((rows(&halves), halves.len()), (expected, 5));
    }

    #[test]
    fn lines_are_cut_between_lines_and_what_is_too_long_is_told() {
        let long = "x".repeat(MAX_ROW);
        let text = format!("1\n\n2\n{long}\n3\n{long}{long}\n{long}");
        let cut = pieces(Format::Ndjson, 4, text.as_bytes());
        let too_long: Vec<u64> = cut
            .iter()
            .flat_map(|piece| piece.too_long.clone())
            .collect();
        // Exactly the bound is not too long, but with its line's end.
        assert_eq!(too_long, [4, 6]);
        let mut told = rows(&cut);
        assert_eq!(told.pop().unwrap(), (7, long));
        let text = |line, row: &str| (line, row.to_owned());
        assert_eq!(
            told,
            [
                text(1, "1\n"),
                text(2, "\n"),
                text(3, "2\n"),
                text(5, "3\n")
            ]
        );
        assert!(
            pieces(Format::Ndjson, 4, b"").is_empty() && pieces(Format::Csv, 4, b"").is_empty()
        );
        assert_eq!(pieces(Format::Csv, 4, b"a,b").len(), 1);
    }

    #[test]
    fn a_forgotten_quote_costs_no_memory() {
        let text = format!("a\n1\n2,\"{}", "x\n".repeat(2 * MAX_ROW));
        let cut = pieces(Format::Csv, 1_000, text.as_bytes());
        assert_eq!(
            (cut[0].too_long.len(), cut[1].too_long.as_slice()),
            (0, &[3][..])
        );
        assert_eq!(cut.len(), 2);
    }
}
