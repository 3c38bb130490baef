//! What is told of an archive beside it.
//!
//! The database has the same; a manifest is what remains of it where the database is lost, and what other programs read.

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{ColdStore, ColumnStats, ObjectKey, PROGRAM, Written, digest::hex, write::differs};
use crate::error::{Error, Result};

/// The version of the form.
const VERSION: u32 = 1;

/// The most bytes of a manifest.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// The manifest of an archive: a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form: 1. Another field makes another version.
    pub version: u32,
    /// Of which rows: `metrics`, `backfill_jobs`, `feedback` or `feedback_history`.
    pub dataset: String,
    /// Of which day, UTC.
    pub day: NaiveDate,
    /// The archive's id.
    pub archive_id: Uuid,
    /// The object's key, below the prefix of the store.
    pub object: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// The content digest of its rows, in hexadecimal.
    pub content_sha256: String,
    /// Its columns: how many nulls each has, its least and its greatest value.
    pub columns: Vec<ColumnStats>,
    /// The last migration of the database that it was written from.
    pub schema_version: i64,
    /// The head of the audit log when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<AuditHead>,
    /// When it was written.
    pub written_at: DateTime<Utc>,
    /// What wrote it.
    pub program: String,
    /// The SHA-256, in hexadecimal, of this object written without white space and with this field empty: a manifest has to
    /// stand for itself where the database is lost.
    pub seal: String,
}

/// A place in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The number of its last entry.
    pub sequence: i64,
    /// That entry's hash, in hexadecimal.
    pub hash: String,
}

impl Manifest {
    /// The manifest of what was written.
    pub fn new(
        key: ObjectKey,
        written: &Written,
        schema_version: i64,
        audit_head: Option<AuditHead>,
        now: DateTime<Utc>,
    ) -> Self {
        let about = key.about();
        let manifest = Self {
            version: VERSION,
            dataset: about.dataset.name().to_owned(),
            day: about.day,
            archive_id: about.id,
            object: key.object().to_string(),
            rows: written.rows,
            bytes: written.bytes,
            sha256: written.sha256.clone(),
            content_sha256: written.content.clone(),
            columns: written.columns.clone(),
            schema_version,
            audit_head,
            written_at: now,
            program: PROGRAM.to_owned(),
            seal: String::new(),
        };
        Self {
            seal: manifest.computed_seal(),
            ..manifest
        }
    }

    /// The seal that it must have.
    fn computed_seal(&self) -> String {
        let unsealed = Self {
            seal: String::new(),
            ..self.clone()
        };
        // Texts and numbers are always JSON; if they were not, no seal would be right.
        let bytes = serde_json::to_vec(&unsealed).unwrap_or_default();
        hex(&Sha256::digest(&bytes))
    }

    /// Reads the manifest of an object, which it must be about.
    pub(super) fn read(key: ObjectKey, bytes: &[u8]) -> Result<Self> {
        let damaged = || {
            Error::unavailable(
                "cold_object_damaged",
                format!(
                    "{key} in the object store is not the manifest that was stored; look at the bucket's log"
                ),
            )
        };
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged().with_source(error))?;
        let is_right = manifest.version == VERSION
            && manifest.object == key.object().to_string()
            && manifest.seal == manifest.computed_seal();
        if !is_right {
            return Err(damaged());
        }
        Ok(manifest)
    }

    /// The same with the seal that it must have.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn sealed(self) -> Self {
        Self {
            seal: self.computed_seal(),
            ..self
        }
    }

    /// What was written, as [`ColdStore::prove`] compares it.
    pub fn written(&self) -> Written {
        Written {
            rows: self.rows,
            bytes: self.bytes,
            sha256: self.sha256.clone(),
            content: self.content_sha256.clone(),
            columns: self.columns.clone(),
        }
    }
}

impl ColdStore {
    /// Writes a manifest beside its object, and reads it back.
    ///
    /// # Errors
    ///
    /// `cold_object_differs` where the store gives other bytes back.
    pub async fn put_manifest(&self, key: ObjectKey, manifest: &Manifest) -> Result<()> {
        let key = key.manifest();
        let mut bytes = serde_json::to_vec_pretty(manifest)
            .map_err(|error| Error::internal("a manifest is no JSON").with_source(error))?;
        bytes.push(b'\n');
        let bytes = Bytes::from(bytes);
        self.remote.put(key, bytes.clone()).await?;
        let found = self.remote.get_small(key, MOST_BYTES).await;
        match found {
            Ok(found) if found == bytes => Ok(()),
            Ok(_) => Err(differs(key, "the manifest")),
            Err(error) if error.code() == "cold_object_damaged" => {
                Err(differs(key, "the manifest's size").with_source(error))
            }
            Err(error) => Err(error),
        }
    }

    /// The manifest beside an object.
    ///
    /// # Errors
    ///
    /// `cold_object_missing` where there is none; `cold_object_damaged` where it is none, or about another object.
    pub async fn get_manifest(&self, key: ObjectKey) -> Result<Manifest> {
        let key = key.manifest();
        Manifest::read(key, &self.remote.get_small(key, MOST_BYTES).await?)
    }
}
