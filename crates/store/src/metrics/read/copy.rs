//! Samples copied out of the database, row by row as they come.
//!
//! COPY in binary form costs the least on both sides; a few lines read it. What comes is bounded by the statement's limit, and
//! at most one row is held back here.

use std::pin::Pin;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream as _, future::poll_fn};
use tokio_postgres::{CopyOutStream, error::SqlState};

use crate::{
    error::{Error, Result},
    metrics::cached::Sample,
};

/// From 1970 to 2000, in microseconds: PostgreSQL counts from there.
const EPOCH: i64 = 946_684_800_000_000;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The signature, flags, and the length of what follows them, which is nothing.
const HEADER: usize = SIGNATURE.len() + 8;

/// Reads what COPY (FORMAT binary) sends, in whatever pieces: a time, a value, and text or nothing.
#[derive(Debug, Default)]
pub(super) struct Parser {
    rest: BytesMut,
    has_begun: bool,
    has_ended: bool,
}

impl Parser {
    /// Reads a piece.
    pub fn read(&mut self, mut piece: Bytes, into: &mut Vec<Sample>) -> Result<()> {
        // Nearly always a piece is one row.
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(&piece);
            piece = self.rest.split().freeze();
        }
        let mut rest: &[u8] = &piece;
        if !self.has_begun {
            if rest.len() < HEADER {
                self.rest.extend_from_slice(rest);
                return Ok(());
            }
            if !rest.starts_with(SIGNATURE) {
                return Err(misread());
            }
            rest = &rest[HEADER..];
            self.has_begun = true;
        }
        while !self.has_ended && !rest.is_empty() {
            let Some(row) = row(rest)? else {
                self.rest.extend_from_slice(rest);
                return Ok(());
            };
            match row {
                (None, _) => self.has_ended = true,
                (Some(sample), length) => {
                    into.push(sample);
                    rest = &rest[length..];
                }
            }
        }
        Ok(())
    }

    /// Whether the end was there.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// The first row and its length, without a sample if it is the end; `None` where it is not all there.
fn row(bytes: &[u8]) -> Result<Option<(Option<Sample>, usize)>> {
    let mut rest = bytes;
    if rest.remaining() < 2 {
        return Ok(None);
    }
    match rest.get_i16() {
        -1 => return Ok(Some((None, 2))),
        3 => {}
        _ => return Err(misread()),
    }
    let (Some(at), Some(value)) = (number(&mut rest)?, number(&mut rest)?) else {
        return Ok(None);
    };
    if rest.remaining() < 4 {
        return Ok(None);
    }
    let metadata = match usize::try_from(rest.get_i32()) {
        Err(_) => None,
        Ok(length) if rest.remaining() < length => return Ok(None),
        Ok(length) => {
            let text = std::str::from_utf8(&rest[..length]).map_err(|_| misread())?;
            rest.advance(length);
            Some(text.into())
        }
    };
    let at = at.cast_signed().checked_add(EPOCH).ok_or_else(misread)?;
    let sample = Sample(at, f64::from_bits(value), metadata);
    Ok(Some((Some(sample), bytes.len() - rest.len())))
}

/// A field of eight bytes.
fn number(rest: &mut &[u8]) -> Result<Option<u64>> {
    if rest.remaining() < 12 {
        return Ok(None);
    }
    if rest.get_i32() != 8 {
        return Err(misread());
    }
    Ok(Some(rest.get_u64()))
}

fn misread() -> Error {
    Error::internal("the database copied out what is no sample")
}

/// Why a COPY ended early.
fn stopped(error: tokio_postgres::Error) -> Error {
    if error.code() == Some(&SqlState::QUERY_CANCELED) {
        return Error::unavailable(
            "read_too_slow",
            "a part of the samples was not read within a minute; read shorter ranges of time",
        )
        .with_source(error);
    }
    error.into()
}

/// One COPY under way.
pub(super) struct Copy {
    stream: Pin<Box<CopyOutStream>>,
    parser: Parser,
}

impl Copy {
    pub fn new(stream: CopyOutStream) -> Self {
        Self {
            stream: Box::pin(stream),
            parser: Parser::default(),
        }
    }

    /// Adds samples, about so many; says whether there may be more.
    pub async fn read(&mut self, into: &mut Vec<Sample>, about: usize) -> Result<bool> {
        while into.len() < about {
            match poll_fn(|context| self.stream.as_mut().poll_next(context)).await {
                Some(piece) => self.parser.read(piece.map_err(stopped)?, into)?,
                None if self.parser.has_ended() => return Ok(false),
                None => return Err(misread()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_in_whatever_pieces_they_come() {
        let samples = [
            Sample(0, 1.5, None),
            Sample(-1, f64::MIN, Some(r#"{"a": "ä"}"#.into())),
            Sample(1_769_860_800_000_001, -0.5, Some("{}".into())),
        ];
        let mut bytes = [SIGNATURE, &[0; 8]].concat();
        for Sample(at, value, metadata) in &samples {
            bytes.extend(3_i16.to_be_bytes());
            bytes.extend(8_i32.to_be_bytes());
            bytes.extend((at - EPOCH).to_be_bytes());
            bytes.extend(8_i32.to_be_bytes());
            bytes.extend(value.to_bits().to_be_bytes());
            let text = metadata.as_deref();
            let length = text.map_or(-1, |text| i32::try_from(text.len()).unwrap());
            bytes.extend(length.to_be_bytes());
            bytes.extend(text.unwrap_or_default().as_bytes());
        }
        bytes.extend((-1_i16).to_be_bytes());
        for size in 1..=bytes.len() {
            let (mut parser, mut read) = (Parser::default(), Vec::new());
            for piece in bytes.chunks(size) {
                assert!(!parser.has_ended());
                parser
                    .read(Bytes::copy_from_slice(piece), &mut read)
                    .unwrap();
            }
            assert!(parser.has_ended());
            assert_eq!(read, samples, "in pieces of {size}");
        }
        let mut wrong = bytes.clone();
        wrong[HEADER + 1] = 4;
        let read = Parser::default().read(wrong.into(), &mut Vec::new());
        assert_eq!(read.unwrap_err().code(), "internal");
        let mut torn = Parser::default();
        torn.read(Bytes::copy_from_slice(&bytes[..HEADER]), &mut Vec::new())
            .unwrap();
        assert!(!torn.has_ended());
    }
}
