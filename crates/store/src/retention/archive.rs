//! Archives as the database has them.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    cold::{Dataset, Manifest, ObjectKey, StoredObject},
    error::{Error, Result},
};

/// How far an archive is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its object is being written.
    Writing,
    /// Its object was read back and compared; its rows are in the database still.
    Proved,
    /// Of samples: its partition is out of the table, and not dropped yet.
    Detached,
    /// Its rows are here and nowhere else.
    Archived,
    /// Its time was up.
    Expired,
    /// It was written anew without some rows.
    Replaced,
    /// Its rows are in the database again.
    Restored,
    /// It was given up before its rows had left the database.
    Abandoned,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Writing,
        Self::Proved,
        Self::Detached,
        Self::Archived,
        Self::Expired,
        Self::Replaced,
        Self::Restored,
        Self::Abandoned,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Proved => "proved",
            Self::Detached => "detached",
            Self::Archived => "archived",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Restored => "restored",
            Self::Abandoned => "abandoned",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| Error::internal(format!("an archive in the unknown state {name}")))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Its id.
    pub id: Uuid,
    /// Of which rows.
    pub dataset: Dataset,
    /// Of which day.
    pub day: NaiveDate,
    /// Which of the day's parts.
    pub part: i32,
    /// How far it is.
    pub state: State,
    /// Where its object is, below the store's address.
    pub object_key: String,
    /// Of a table's rows: after which key they begin.
    pub after_key: Option<String>,
    /// The key of the last of them.
    pub last_key: Option<String>,
    /// Which archive it is to replace.
    pub replaces: Option<Uuid>,
    /// What was read back: the manifest, as it lies beside the object, too.
    pub manifest: Option<String>,
    /// How many rows; none before it was proved.
    pub rows: Option<i64>,
    /// The object's size.
    pub bytes: Option<i64>,
    /// The SHA-256 of the object.
    pub sha256: Option<Vec<u8>>,
    /// The digest of its content, whatever form it is stored in.
    pub content_sha256: Option<Vec<u8>>,
    /// When it was begun.
    pub began_at: DateTime<Utc>,
    /// When its object was read back and compared.
    pub proved_at: Option<DateTime<Utc>>,
    /// When its rows left the database.
    pub archived_at: Option<DateTime<Utc>>,
    /// When it expired, was replaced, restored or abandoned.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// When its object was seen to be gone.
    pub removed_at: Option<DateTime<Utc>>,
}

impl Archive {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let dataset: &str = row.try_get("dataset")?;
        Ok(Self {
            id: row.try_get("id")?,
            dataset: Dataset::from_name(dataset)
                .ok_or_else(|| Error::internal(format!("an archive of unknown {dataset}")))?,
            day: row.try_get("day")?,
            part: row.try_get("part")?,
            state: State::from_name(row.try_get("state")?)?,
            object_key: row.try_get("object_key")?,
            after_key: row.try_get("after_key")?,
            last_key: row.try_get("last_key")?,
            replaces: row.try_get("replaces")?,
            manifest: row.try_get("manifest")?,
            rows: row.try_get("rows")?,
            bytes: row.try_get("bytes")?,
            sha256: row.try_get("sha256")?,
            content_sha256: row.try_get("content_sha256")?,
            began_at: row.try_get("began_at")?,
            proved_at: row.try_get("proved_at")?,
            archived_at: row.try_get("archived_at")?,
            ended_at: row.try_get("ended_at")?,
            end_reason: row.try_get("end_reason")?,
            removed_at: row.try_get("removed_at")?,
        })
    }

    /// Where its object is.
    pub fn key(&self) -> Result<ObjectKey> {
        ObjectKey::parse(&self.object_key)
            .ok_or_else(|| Error::internal(format!("no key of ours: {}", self.object_key)))
    }

    /// What was recorded of it when it was read back.
    pub fn manifest(&self) -> Result<Manifest> {
        let text = self.manifest.as_deref().ok_or_else(not_proved)?;
        serde_json::from_str(text)
            .map_err(|error| Error::internal("a manifest that cannot be read").with_source(error))
    }

    /// Its object, for reading.
    pub fn stored(&self) -> Result<StoredObject> {
        let manifest = self.manifest()?;
        Ok(StoredObject {
            key: self.key()?,
            bytes: manifest.bytes,
            sha256: manifest.sha256,
        })
    }
}

fn not_proved() -> Error {
    Error::conflict("archive_state", "the archive has not been proved yet")
}
