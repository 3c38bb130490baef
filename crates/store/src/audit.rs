//! The audit log (C7.5): what was done that cannot be undone, and who tried to.
//!
//! # What it guarantees
//!
//! * Entries are numbered from 1 without gaps, and each one's hash covers all its fields and the hash of the entry before
//!   it: one that was changed, removed, put elsewhere or slipped in shows, and [`Audit::verify`] says which.
//! * Nothing writes the log but the database's function `audit_append`, which belongs to a role of its own: neither the
//!   application nor retention nor the functions of the tables' owner can change or remove an entry.
//! * An entry is committed together with what it tells of, or neither is. A refused attempt rolls back, so it is told of on
//!   another connection ([`Audit::denied`]).
//! * Who can change everything (a superuser) can also write the whole log anew, with hashes that agree. Against that, heads
//!   are kept where that person cannot reach: in manifests of archives and backups, or in a mail. Such an [`Anchor`] says
//!   what hash the entry of some number had.
//!
//! # Why a head row
//!
//! Whoever appends must know the last entry, and nobody else may append until that is committed. Locking the last entry
//! itself forks the chain: a session that waited for it gets what was the last entry when its statement began. The row of
//! the head is always the same row, so that waiting for it gives it as it then is:
//!
//! ```text
//! A: locks the head (7) → writes 8 → sets the head to 8 → commits
//! B:              waits for the head ………………………………………… gets it, as 8 → writes 9
//! ```
//!
//! The lock is held to the end of the transaction: [`append_in_tx`] comes last in it.

mod chain;
mod entry;
mod fault;
mod pseudonym;
pub mod queries;
mod read;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use serde_json::json;

pub use chain::Verifier;
pub use entry::{Action, Entry, Hash, Head, Record, hex};
pub use fault::{Anchor, Fault, Verification};
pub use pseudonym::{pseudonym, pseudonym_by};
pub use read::{Export, Reading};

use crate::{
    clock::to_micros,
    db::{self, Dedicated, Pool},
    error::{Error, Result},
};

/// The longest page.
pub const MAX_PAGE: i64 = 1_000;

/// Appends an entry and returns its number. Called last in its transaction, which then holds the head until it ends; what is
/// rolled back was never in the log.
///
/// Under REPEATABLE READ and SERIALIZABLE it fails with a serialization failure where another entry was committed since
/// the transaction's snapshot.
pub async fn append_in_tx(client: &impl GenericClient, entry: &Entry) -> Result<i64> {
    let details = entry.checked_details()?;
    let row = db::query_one(
        client,
        &queries::APPEND,
        &[
            &to_micros(entry.at),
            &entry.actor,
            &entry.action.as_str(),
            &entry.subject,
            &details,
        ],
    )
    .await?;
    Ok(row.try_get("sequence")?)
}

/// The same over a connection outside the pool, in a transaction of its own.
pub async fn append_over(connection: &Dedicated, entry: &Entry) -> Result<i64> {
    let details = entry.checked_details()?;
    let statement = connection
        .prepare_typed(queries::APPEND.sql, queries::APPEND.params)
        .await?;
    let params: db::Params<'_> = &[
        &to_micros(entry.at),
        &entry.actor,
        &entry.action.as_str(),
        &entry.subject,
        &details,
    ];
    let row = connection.query_one(&statement, params).await?;
    Ok(row.try_get("sequence")?)
}

/// The present head: what manifests keep. In a transaction that has appended, the head that its commit will make.
pub async fn head(client: &impl GenericClient) -> Result<Head> {
    let row = db::query_one(client, &queries::HEAD, &[]).await?;
    Head::from_row(&row)
}

/// Which entries are listed; what is `None` is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// What was done.
    pub action: Option<Action>,
    /// How the subject begins.
    pub subject_prefix: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A page of the log, the newest entry first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most as many as asked for.
    pub entries: Vec<Record>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// Where a page ended. On the wire an opaque text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(i64);

/// Raised when the bytes of a cursor change their meaning.
const CURSOR_VERSION: u8 = 1;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![CURSOR_VERSION];
        bytes.extend(self.0.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let sequence = bytes.as_deref().and_then(|bytes| match bytes {
            [CURSOR_VERSION, sequence @ ..] => sequence.try_into().ok().map(i64::from_be_bytes),
            _ => None,
        });
        sequence.map(Self).ok_or_else(|| {
            Error::field(
                "cursor",
                "must be the cursor that the page before gave; leave it out to begin anew",
            )
        })
    }
}

/// The audit log in a database.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a> {
    pool: &'a Pool,
}

impl<'a> Audit<'a> {
    /// The log behind a pool.
    pub fn new(pool: &'a Pool) -> Self {
        Self { pool }
    }

    /// Appends an entry in a transaction of its own, and returns its number.
    pub async fn append(&self, entry: &Entry) -> Result<i64> {
        append_in_tx(&self.pool.get().await?, entry).await
    }

    /// Notes that something was attempted and refused, on a connection of its own: the refused transaction rolls back, and
    /// would take the note with it.
    pub async fn denied(
        &self,
        at: DateTime<Utc>,
        actor: &str,
        attempted: Action,
        subject: &str,
        refusal: &Error,
    ) -> Result<i64> {
        let entry = Entry {
            at,
            actor: actor.to_owned(),
            action: Action::Denied,
            subject: subject.to_owned(),
            details: json!({
                "attempted": attempted.as_str(),
                "code": refusal.code(),
                "reason": refusal.message(),
            }),
        };
        self.append(&entry).await
    }

    /// The present head.
    pub async fn head(&self) -> Result<Head> {
        head(&self.pool.get().await?).await
    }

    /// The entries that match, the newest first; `limit` from 1 to [`MAX_PAGE`].
    pub async fn list(&self, filter: &Filter, limit: i64, after: Option<Cursor>) -> Result<Page> {
        if !(1..=MAX_PAGE).contains(&limit) {
            let message = format!("must be between 1 and {MAX_PAGE}");
            return Err(Error::field("limit", message));
        }
        let connection = self.pool.get().await?;
        let rows = db::query_pruned(
            &connection,
            &queries::LIST,
            &[
                &filter.action.map(Action::as_str),
                &filter.subject_prefix,
                &filter.actor,
                &filter.from.map(read::bound),
                &filter.to.map(read::bound),
                &after.map(|cursor| cursor.0),
                // One more tells whether there is a next page.
                &(limit + 1),
            ],
        )
        .await?;
        let mut entries = rows
            .iter()
            .map(Record::from_row)
            .collect::<Result<Vec<_>>>()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| more);
        let next = last.map(|entry| Cursor(entry.sequence));
        Ok(Page { entries, next })
    }

    /// Reads the whole log as it is at this moment, and says what is wrong with it.
    pub async fn verify(&self, anchors: &[Anchor]) -> Result<Verification> {
        let mut reading = self.read().await?;
        let mut verifier = Verifier::new(reading.head().cloned(), anchors);
        while let Some(entries) = reading.next().await? {
            for entry in entries {
                verifier.push(entry);
            }
        }
        Ok(verifier.finish())
    }
}
