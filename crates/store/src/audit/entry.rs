//! What is written into the log, and what is read back.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;

use crate::error::{Error, FieldError, Result};

/// The longest actor, in characters.
pub const MAX_ACTOR: usize = 200;
/// The longest subject, in characters.
pub const MAX_SUBJECT: usize = 1_000;
/// The most details, in bytes of JSON.
pub const MAX_DETAILS_BYTES: usize = 65_536;

/// What begins the bytes that are hashed. Raised when those bytes change.
const FORMAT: &[u8] = b"utxoiq audit 1";

macro_rules! actions {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $text:literal, )+) => {
        /// What was done. The names are stable: they are part of what is hashed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$( Self::$variant ),+];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }
    };
}

actions! {
    /// A plan of what retention would do was made, to be carried out.
    Plan = "plan",
    /// Rows were written into an archive.
    Archive = "archive",
    /// An archive was read back and compared.
    Verify = "verify",
    /// A partition was detached.
    Detach = "detach",
    /// A partition was attached again.
    Attach = "attach",
    /// A table was dropped.
    Drop = "drop",
    /// Rows were deleted.
    Delete = "delete",
    /// An archive was deleted because its time was up.
    Expire = "expire",
    /// An attempt to archive was given up.
    Abandon = "abandon",
    /// A legal hold was laid.
    HoldAdd = "hold_add",
    /// A legal hold was lifted.
    HoldRelease = "hold_release",
    /// An object of an archive that had ended was removed, and seen to be gone.
    Remove = "remove",
    /// An archive was written anew without some rows.
    Replace = "replace",
    /// Archived rows were brought back.
    Restore = "restore",
    /// Erasing a person was begun.
    EraseBegin = "erase_begin",
    /// A person's data was erased.
    Erase = "erase",
    /// A backup was removed because its time was over, and seen to be gone.
    BackupPrune = "backup_prune",
    /// This database was restored from a backup, and was equal to it.
    BackupRestore = "backup_restore",
    /// Something was attempted and refused.
    Denied = "denied",
    /// Tokens ran out.
    TokenExpire = "token_expire",
    /// A run of the policies began.
    RunBegin = "run_begin",
    /// A run of the policies ended.
    RunEnd = "run_end",
    /// Made-up data was written, for a demonstration.
    Demo = "demo",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.iter().find(|action| action.as_str() == text);
        known.copied().ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|action| action.as_str()).collect();
            Error::field(
                "action",
                format!("not an action: use one of {}", known.join(", ")),
            )
        })
    }
}

/// An entry to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When, by the caller's clock; kept to the microsecond.
    pub at: DateTime<Utc>,
    /// Who: the name of a token, an operator or a task, of 1 to [`MAX_ACTOR`] characters. Never a user's id.
    pub actor: String,
    /// What was done.
    pub action: Action,
    /// What it was done to, of 1 to [`MAX_SUBJECT`] characters: a dataset and its day, an object's key, a hold's id.
    pub subject: String,
    /// A JSON object of at most [`MAX_DETAILS_BYTES`]: how many, which hashes, why. Never a user's id.
    pub details: Value,
}

impl Entry {
    /// An entry.
    pub fn new(
        at: DateTime<Utc>,
        actor: &str,
        action: Action,
        subject: impl Into<String>,
        details: Value,
    ) -> Self {
        Self {
            at,
            actor: actor.to_owned(),
            action,
            subject: subject.into(),
            details,
        }
    }

    /// The details as they are stored; refuses what the table would.
    pub(super) fn checked_details(&self) -> Result<String> {
        let mut errors = Vec::new();
        for (field, text, max) in [
            ("actor", &self.actor, MAX_ACTOR),
            ("subject", &self.subject, MAX_SUBJECT),
        ] {
            if !(1..=max).contains(&text.chars().count()) || text.chars().any(char::is_control) {
                errors.push(FieldError::new(
                    field,
                    format!("must have 1 to {max} characters and no control characters"),
                ));
            }
        }
        let details = self.details.to_string();
        if !self.details.is_object() || details.len() > MAX_DETAILS_BYTES {
            errors.push(FieldError::new(
                "details",
                format!("must be a JSON object of at most {MAX_DETAILS_BYTES} bytes"),
            ));
        }
        if details.contains("\\u0000") {
            errors.push(FieldError::new("details", "must not contain NUL"));
        }
        if errors.is_empty() {
            Ok(details)
        } else {
            Err(Error::fields(errors))
        }
    }
}

/// A SHA-256, or what stands in its place.
pub type Hash = Vec<u8>;

/// The hash before the first entry's.
pub(super) const GENESIS: [u8; 32] = [0; 32];

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1 on, without gaps.
    pub sequence: i64,
    /// When, in microseconds since 1970; `None` for what is no time (nobody but who tampered with the table stored that).
    pub at_microseconds: Option<i64>,
    /// Who.
    pub actor: String,
    /// As whom that was connected to the database.
    pub database_role: String,
    /// What was done: an [`Action`]'s name, also of one that this program does not know.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// The details: the very characters that were hashed, a JSON object.
    pub details: String,
    /// The hash of the entry before it.
    pub previous_hash: Hash,
    /// SHA-256 over all of the above.
    pub hash: Hash,
}

impl Record {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            sequence: row.try_get("sequence")?,
            at_microseconds: row.try_get("at_microseconds")?,
            actor: row.try_get("actor")?,
            database_role: row.try_get("database_role")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            details: row.try_get("details")?,
            previous_hash: row.try_get("previous_hash")?,
            hash: row.try_get("hash")?,
        })
    }

    /// When.
    pub fn at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.at_microseconds?)
    }

    /// When, always with six decimals: `2026-11-23T02:00:00.000000Z`.
    pub fn at_text(&self) -> Option<String> {
        let at = self.at()?;
        Some(at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
    }

    /// Whether its hash is that of its content.
    pub fn is_itself(&self) -> bool {
        self.digest(self.sequence) == self.hash.as_slice()
    }

    /// The hash of its content, were it the entry of this number: SHA-256 over the format's name, the previous hash, the
    /// number, the time, and the texts, each with its length in front (four bytes). Numbers are eight bytes, the highest
    /// first.
    pub(super) fn digest(&self, sequence: i64) -> [u8; 32] {
        let sequence = sequence.to_be_bytes();
        // What is no time has no bytes, so that nothing hashes to it.
        let at = self.at_microseconds.map(i64::to_be_bytes);
        let mut hasher = Sha256::new();
        for field in [
            FORMAT,
            &self.previous_hash,
            &sequence,
            at.as_ref().map_or(&[], |at| at.as_slice()),
            self.actor.as_bytes(),
            self.database_role.as_bytes(),
            self.action.as_bytes(),
            self.subject.as_bytes(),
            self.details.as_bytes(),
        ] {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            hasher.update(length.to_be_bytes());
            hasher.update(field);
        }
        hasher.finalize().into()
    }
}

/// The log's end: the number and hash of the last entry. Before the first one, 0 and 32 zero bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The last entry's number.
    pub sequence: i64,
    /// The last entry's hash.
    pub hash: Hash,
}

impl Head {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            sequence: row.try_get("sequence")?,
            hash: row.try_get("hash")?,
        })
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// A SHA-256 out of its hexadecimal digits.
pub(super) fn hash_from_hex(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}
