//! Reading rows by COPY in its binary form: half the work of ordinary rows for the server, and for us.
//!
//! COPY takes no parameters, so its query is written out with numbers only; that it is planned for these very numbers, and
//! touches only the partitions that they are about, comes with it.

use std::pin::Pin;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use tokio_postgres::CopyOutStream;

use super::Connection;
use crate::error::{Error, Result};

/// Signature, flags and the length of an extension, which is none.
const HEADER: usize = 19;

/// PostgreSQL counts from 2000-01-01: that moment, in microseconds since 1970.
pub const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Rows on their way from the database.
pub struct Copied {
    stream: Pin<Box<CopyOutStream>>,
    is_first: bool,
}

/// One row; its fields are taken in order.
pub struct Fields(Bytes);

impl Copied {
    /// Begins to read the rows of a COPY … TO STDOUT (FORMAT binary).
    pub async fn begin(connection: &Connection, copy: &str) -> Result<Self> {
        Ok(Self::over(connection.copy_out(copy).await?))
    }

    /// The rows of a COPY that was begun on any connection.
    pub fn over(stream: CopyOutStream) -> Self {
        Self {
            stream: Box::pin(stream),
            is_first: true,
        }
    }

    /// The next row.
    pub async fn next(&mut self) -> Result<Option<Fields>> {
        // Each message is a row; the first one begins with the header.
        loop {
            let Some(message) = self.stream.next().await else {
                return Ok(None);
            };
            let mut message = message?;
            if std::mem::take(&mut self.is_first) {
                if message.len() < HEADER {
                    return Err(damaged());
                }
                let _ = message.split_to(HEADER);
                if message.is_empty() {
                    continue;
                }
            }
            let mut fields = Fields(message);
            // The end is a row of -1 fields; the stream is read on, so that the connection is free afterwards.
            if fields.take::<2>()? != [0xff, 0xff] {
                return Ok(Some(fields));
            }
        }
    }
}

impl Fields {
    /// What is left of the row: for each field its length (int4, -1 for null) and its bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.0.get(..N).ok_or_else(damaged)?;
        let taken = bytes.try_into().map_err(|_| damaged())?;
        self.0.advance(N);
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let length = i32::from_be_bytes(self.take()?);
        if usize::try_from(length) != Ok(N) {
            return Err(damaged());
        }
        self.take()
    }

    /// An `int4`.
    pub fn int4(&mut self) -> Result<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// An `int8`.
    pub fn int8(&mut self) -> Result<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// A `float8`.
    pub fn float8(&mut self) -> Result<f64> {
        self.fixed().map(f64::from_be_bytes)
    }

    /// A time, in microseconds since the epoch.
    pub fn time(&mut self) -> Result<i64> {
        Ok(self.int8()?.saturating_add(POSTGRES_EPOCH))
    }

    /// Bytes, or the bytes of a text; `None` for null.
    pub fn bytes(&mut self) -> Result<Option<Bytes>> {
        let length = i32::from_be_bytes(self.take()?);
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        if length > self.0.len() {
            return Err(damaged());
        }
        Ok(Some(self.0.split_to(length)))
    }
}

fn damaged() -> Error {
    Error::internal("what was copied out of the database is not in the form of COPY")
}
