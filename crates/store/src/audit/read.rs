//! The whole log, a few entries at a time, as it was at one moment.
//!
//! One transaction with one snapshot: the head and the entries belong together, however much is appended meanwhile. It is
//! a cursor and not pages by number, so that entries whose numbers are there twice are seen, too. The snapshot holds back
//! vacuum while it lasts, so a reader that takes longer than [`LONGEST`] is sent away.

use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike as _, Utc};
use futures_util::Stream;
use serde_json::{Value, json};
use tokio_postgres::types::Timestamp;

use super::{
    Audit,
    entry::{Head, Record, hex},
    queries,
};
use crate::{
    db::{self, OpenTransaction},
    error::{Error, Result},
};

/// How long one reading may take: some twenty million entries.
const LONGEST: Duration = Duration::from_mins(10);

/// One snapshot, and patience with a reader who takes a few entries now and then.
const BEGIN: &str = "begin isolation level repeatable read read only; \
                     set local idle_in_transaction_session_timeout = '60s'";

/// A reading under way. Dropping it ends it.
pub struct Reading {
    transaction: Option<OpenTransaction>,
    head: Option<Head>,
    until: Instant,
}

impl Reading {
    /// The head, which belongs to the entries; `None` where somebody removed it.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The next entries, in the order of their numbers; none when all were given.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        let Some(transaction) = &self.transaction else {
            return Ok(None);
        };
        if Instant::now() > self.until {
            return Err(Error::unavailable(
                "read_too_slow",
                "the audit log was not read within ten minutes; read it over a faster connection",
            ));
        }
        let rows = db::query(transaction.connection()?, &queries::FETCH, &[]).await?;
        if rows.is_empty() {
            if let Some(transaction) = self.transaction.take() {
                transaction.end(Ok(())).await?;
            }
            return Ok(None);
        }
        rows.iter()
            .map(Record::from_row)
            .collect::<Result<_>>()
            .map(Some)
    }
}

/// An export under way: lines of JSON, each with its line break. Dropping it ends it.
pub struct Export {
    reading: Reading,
    entries: u64,
    is_over: bool,
}

impl Export {
    /// How many entries were given.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The next lines: entries and, last of all, one line with the head; none when all were given.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.is_over {
            return Ok(None);
        }
        let mut lines = Vec::new();
        if let Some(entries) = self.reading.next().await? {
            for entry in entries {
                self.entries += 1;
                line(&mut lines, &as_json(&entry));
            }
        } else {
            self.is_over = true;
            let head = self
                .reading
                .head()
                .map(|head| json!({"sequence": head.sequence, "hash": hex(&head.hash)}));
            line(&mut lines, &json!({"head": head, "entries": self.entries}));
        }
        Ok(Some(lines))
    }

    /// The same as a stream. After an error it ends.
    pub fn into_stream(self) -> impl Stream<Item = Result<Vec<u8>>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut export| async move {
            Ok(export.next().await?.map(|lines| (lines, export)))
        })
    }
}

fn line(lines: &mut Vec<u8>, value: &Value) {
    lines.extend(value.to_string().as_bytes());
    lines.push(b'\n');
}

/// An entry as it is exported. The details are a text and not an object, since their very characters were hashed.
fn as_json(entry: &Record) -> Value {
    json!({
        "sequence": entry.sequence,
        "at": entry.at_text(),
        "actor": entry.actor,
        "database_role": entry.database_role,
        "action": entry.action,
        "subject": entry.subject,
        "details": entry.details,
        "previous_hash": hex(&entry.previous_hash),
        "hash": hex(&entry.hash),
    })
}

impl Audit<'_> {
    /// Begins to read the whole log.
    pub async fn read(&self) -> Result<Reading> {
        let transaction = OpenTransaction::begin(self.pool, BEGIN).await?;
        let connection = transaction.connection()?;
        let head = db::query_opt(connection, &queries::HEAD, &[]).await?;
        let head = head.as_ref().map(Head::from_row).transpose()?;
        db::execute(connection, &queries::DECLARE, &[]).await?;
        Ok(Reading {
            transaction: Some(transaction),
            head,
            until: Instant::now() + LONGEST,
        })
    }

    /// Begins to export the whole log: everything that somebody else needs to verify it without us.
    pub async fn export(&self) -> Result<Export> {
        Ok(Export {
            reading: self.read().await?,
            entries: 0,
            is_over: false,
        })
    }
}

/// A bound of a range as PostgreSQL takes it: further away than any time that is stored, it is infinite.
pub(super) fn bound(at: DateTime<Utc>) -> Timestamp<DateTime<Utc>> {
    match at.year() {
        ..1 => Timestamp::NegInfinity,
        1..10_000 => Timestamp::Value(at),
        _ => Timestamp::PosInfinity,
    }
}
