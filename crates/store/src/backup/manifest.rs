//! What is told of a backup beside it: all that a restore needs to know, and all that a proof compares.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    audit::hex,
    cold::{AuditHead, BackupKey, Bucket},
    error::{Error, Result},
};

/// The version of the form.
const VERSION: u32 = 1;

/// The most bytes of a manifest: some 100,000 archives.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What writes backups, as they say themselves.
pub(super) const PROGRAM: &str = concat!("utxoiq-store ", env!("CARGO_PKG_VERSION"));

/// The manifest of a backup: a JSON object. No password, no key and no row is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form: 1. Another field makes another version.
    pub version: u32,
    /// The run's id.
    pub backup_id: Uuid,
    /// The dump's key, below the prefix of the store.
    pub object: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// When the dump was stored.
    pub stored_at: DateTime<Utc>,
    /// What was backed up.
    pub source: Source,
    /// How the dump was made.
    pub dump: Dump,
    /// Every table, partitions one by one, by name: what a restored one must equal.
    pub tables: BTreeMap<String, Fingerprint>,
    /// Every sequence, by name. Sequences are in no snapshot: a restored one may not be behind.
    pub sequences: BTreeMap<String, i64>,
    /// Every line of the catalogue: columns, constraints, indexes, triggers, functions, owners and grants.
    pub catalogue: Vec<String>,
    /// The archives in the cold store that a restored database counts on.
    pub archives: Vec<ArchiveNeeded>,
    /// The head of the audit log in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<AuditHead>,
    /// The manifest before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// What made the backup.
    pub program: String,
    /// The SHA-256, in hexadecimal, of this object written without white space and with this field empty.
    pub seal: String,
}

/// What every version of the form has.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

/// The database that was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The database's name.
    pub database: String,
    /// The server's version, as it says it: 15.8.
    pub server_version: String,
    /// The server's version as a number: 150008.
    pub server_version_num: i32,
    /// The last migration.
    pub schema_version: i32,
    /// The extensions, without PostgreSQL's own language.
    pub extensions: Vec<String>,
}

/// The dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The tool: `pg_dump 15.8`.
    pub tool: String,
    /// How it is wrapped, from the inside out.
    pub format: String,
    /// Whom it is encrypted to: public keys.
    pub recipients: Vec<String>,
    /// The size of what pg_dump wrote, in bytes.
    pub plain_bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub plain_sha256: String,
    /// The size of the stored object, in bytes.
    pub stored_bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub stored_sha256: String,
}

/// What a table's rows come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many rows it has.
    pub rows: i64,
    /// The sum of the extended hashes of its rows, in decimal.
    pub hash: String,
}

/// An archive that a restored database counts on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveNeeded {
    /// The archive's id.
    pub id: Uuid,
    /// The object's key, below the prefix of the cold store.
    pub object: String,
    /// Its size, in bytes.
    pub bytes: i64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// The backup before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its run's id.
    pub backup_id: Uuid,
    /// The SHA-256 of its manifest's bytes, in hexadecimal.
    pub manifest_sha256: String,
}

impl Manifest {
    /// The form of the dumps that this version writes.
    pub(super) const FORMAT: &'static str = "pg_dump custom, zstd, age";

    /// The same, numbered and sealed.
    pub(super) fn sealed(mut self) -> Self {
        self.version = VERSION;
        PROGRAM.clone_into(&mut self.program);
        self.seal = self.computed_seal();
        self
    }

    /// How many rows all tables have. A manifest may say anything: a sum beyond all numbers is the greatest one.
    pub fn rows(&self) -> i64 {
        let rows = self.tables.values().map(|table| table.rows);
        rows.fold(0, i64::saturating_add)
    }

    /// The key of the dump.
    pub fn key(&self) -> BackupKey {
        BackupKey::dump(self.started_at, self.backup_id)
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

    /// Writes it beside its dump and reads it back; gives the SHA-256 of its bytes.
    ///
    /// # Errors
    ///
    /// `backup_differs` where the store gives other bytes back.
    pub(super) async fn put(&self, bucket: &Bucket) -> Result<String> {
        let key = self.key().manifest();
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::internal("a manifest is no JSON").with_source(error))?;
        bytes.push(b'\n');
        let bytes = Bytes::from(bytes);
        bucket.put(key, bytes.clone()).await?;
        let found = bucket.get_small(key, MOST_BYTES).await?;
        if found != bytes {
            return Err(Error::unavailable(
                "backup_differs",
                format!("{key}, read back, is not the manifest that was written"),
            ));
        }
        Ok(hex(&Sha256::digest(&bytes)))
    }

    /// Reads the manifest beside a dump, and the SHA-256 of its bytes.
    ///
    /// # Errors
    ///
    /// `cold_object_missing` where there is none; `backup_damaged` where it is none, or about another backup.
    pub async fn get(bucket: &Bucket, key: BackupKey) -> Result<(Self, String)> {
        let key = key.manifest();
        let bytes = bucket.get_small(key, MOST_BYTES).await?;
        let manifest = Self::read(key, &bytes)?;
        Ok((manifest, hex(&Sha256::digest(&bytes))))
    }

    /// Reads the manifest of a key, which it must be about.
    pub(super) fn read(key: BackupKey, bytes: &[u8]) -> Result<Self> {
        let damaged = || {
            Error::unavailable(
                "backup_damaged",
                format!(
                    "{key} is not the manifest that was stored; look at the bucket's log, and take another backup"
                ),
            )
        };
        let form: Form =
            serde_json::from_slice(bytes).map_err(|error| damaged().with_source(error))?;
        if form.version > VERSION {
            return Err(Error::unavailable(
                "manifest_newer",
                format!("{key} was written by a newer version of this program: use that one"),
            ));
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged().with_source(error))?;
        let is_right = manifest.version == VERSION
            && manifest.object == key.object().to_string()
            && manifest.key() == key.object()
            && manifest.seal == manifest.computed_seal();
        if !is_right {
            return Err(damaged());
        }
        Ok(manifest)
    }
}

/// The key of the manifests that are tried.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const FUZZED: BackupKey = BackupKey {
    started_at: DateTime::UNIX_EPOCH,
    id: Uuid::from_u128(77),
    is_manifest: true,
};

/// A manifest of that key.
#[cfg(test)]
pub(super) fn seed() -> Vec<u8> {
    let manifest = Manifest {
        version: VERSION,
        backup_id: FUZZED.id,
        object: FUZZED.object().to_string(),
        started_at: FUZZED.started_at,
        stored_at: FUZZED.started_at,
        source: Source {
            database: "utxoiq".into(),
            server_version: "15.8".into(),
            server_version_num: 150_008,
            schema_version: 12,
            extensions: vec!["btree_gist".into()],
        },
        dump: Dump {
            tool: "pg_dump 15.8".into(),
            format: Manifest::FORMAT.into(),
            recipients: vec!["age1x".into()],
            plain_bytes: 10,
            plain_sha256: "00".into(),
            stored_bytes: 9,
            stored_sha256: "11".into(),
        },
        tables: [(
            "public.a".to_owned(),
            Fingerprint {
                rows: 3,
                hash: "-5".into(),
            },
        )]
        .into(),
        sequences: [("public.s".to_owned(), 7)].into(),
        catalogue: vec!["table public.a".into()],
        archives: vec![ArchiveNeeded {
            id: FUZZED.id,
            object: "metrics/day=2026-08-01/x".into(),
            bytes: 9,
            sha256: "22".into(),
        }],
        audit_head: Some(AuditHead {
            sequence: 5,
            hash: "33".into(),
        }),
        previous: Some(Previous {
            backup_id: FUZZED.id,
            manifest_sha256: "44".into(),
        }),
        program: String::new(),
        seal: String::new(),
    };
    serde_json::to_vec(&manifest.sealed()).unwrap()
}
