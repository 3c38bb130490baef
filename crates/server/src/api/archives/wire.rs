//! What the calls about archives take and give.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::retention;
use uuid::Uuid;

use crate::api::retention::wire::ShownDataset;

/// Which archives.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct ListQuery {
    /// Only of this dataset.
    #[param(inline)]
    pub dataset: Option<ShownDataset>,
    /// From this day on.
    pub from: Option<NaiveDate>,
    /// Before this day.
    pub to: Option<NaiveDate>,
    /// In this state.
    #[param(inline)]
    pub state: Option<ShownState>,
    /// How many at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    pub limit: Option<i64>,
    /// Where to go on: `next_cursor` of the page before.
    #[param(min_length = 1, max_length = 100)]
    pub cursor: Option<String>,
}

/// What an archive has gone through.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)] // the document is made of it; Input reads it
pub enum ShownState {
    /// It is being written.
    Writing,
    /// It was read back and compared.
    Proved,
    /// Its rows are out of sight.
    Detached,
    /// Its rows are here alone.
    Archived,
    /// Its time was up.
    Expired,
    /// Another one took its place.
    Replaced,
    /// Its rows are back in the database.
    Restored,
    /// It was never finished.
    Abandoned,
}

/// Which day.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct WhereQuery {
    /// The day (UTC).
    pub day: NaiveDate,
    /// Only of this dataset.
    #[param(inline)]
    pub dataset: Option<ShownDataset>,
}

/// A page of archives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Archives)]
pub struct Archives {
    /// By day, dataset and part.
    pub archives: Vec<Archive>,
    /// Where the next page begins; null on the last one.
    pub next_cursor: Option<String>,
}

/// An archive: rows of one dataset and day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Archive)]
pub struct Archive {
    /// Its id.
    pub id: Uuid,
    /// Of which dataset.
    pub dataset: &'static str,
    /// Of which day (UTC).
    pub day: NaiveDate,
    /// Which of the day's parts.
    pub part: i32,
    /// `writing`, `proved`, `detached`, `archived`, `expired`, `replaced`, `restored` or `abandoned`.
    pub state: &'static str,
    /// Where its object is, or was, below the store's address.
    pub object: String,
    /// How many rows; null before it was proved.
    pub rows: Option<i64>,
    /// The object's size.
    pub bytes: Option<i64>,
    /// The SHA-256 of the object, in hexadecimal.
    pub sha256: Option<String>,
    /// The digest of its content, in hexadecimal.
    pub content_sha256: Option<String>,
    /// Which archive it replaced.
    pub replaces: Option<Uuid>,
    /// When it was begun.
    pub began_at: DateTime<Utc>,
    /// When it was read back and compared.
    pub proved_at: Option<DateTime<Utc>>,
    /// When its rows left the database.
    pub archived_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// When its object was seen to be gone.
    pub removed_at: Option<DateTime<Utc>>,
}

impl From<retention::ArchiveView> for Archive {
    fn from(archive: retention::ArchiveView) -> Self {
        Self {
            id: archive.id,
            dataset: archive.dataset,
            day: archive.day,
            part: archive.part,
            state: archive.state.name(),
            object: archive.object,
            rows: archive.rows,
            bytes: archive.bytes,
            sha256: archive.sha256,
            content_sha256: archive.content_sha256,
            replaces: archive.replaces,
            began_at: archive.began_at,
            proved_at: archive.proved_at,
            archived_at: archive.archived_at,
            ended_at: archive.ended_at,
            end_reason: archive.end_reason,
            removed_at: archive.removed_at,
        }
    }
}

/// Where a day is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Whereabouts)]
pub struct Whereabouts {
    /// The day (UTC).
    pub day: NaiveDate,
    /// Each dataset that was asked for.
    pub datasets: Vec<DatasetDay>,
}

/// Where a dataset's day is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WhereaboutsOfDataset)]
pub struct DatasetDay {
    /// The dataset.
    pub dataset: &'static str,
    /// `hot`, `cold`, `both`, `deleted` or `never`.
    pub place: &'static str,
    /// How many rows are in the database.
    pub hot_rows: i64,
    /// How many are in archives.
    pub cold_rows: i64,
    /// Every archive there was of it.
    pub archives: Vec<Archive>,
    /// What the audit log says of it, the oldest first.
    pub proof: Vec<Proof>,
}

/// An entry of the audit log about a day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProofOfDay)]
pub struct Proof {
    /// The entry's number.
    pub sequence: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To which archive, where it was one.
    pub archive: Option<String>,
    /// How many rows it was about.
    pub rows: Option<i64>,
    /// Why.
    pub reason: Option<String>,
    /// The entry's hash, in hexadecimal.
    pub hash: String,
}

impl From<retention::Whereabouts> for DatasetDay {
    fn from(is: retention::Whereabouts) -> Self {
        Self {
            dataset: is.dataset,
            place: is.place.name(),
            hot_rows: is.hot_rows,
            cold_rows: is.cold_rows,
            archives: is.archives.into_iter().map(Into::into).collect(),
            proof: is.proof.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<retention::Proof> for Proof {
    fn from(proof: retention::Proof) -> Self {
        Self {
            sequence: proof.sequence,
            at: proof.at,
            actor: proof.actor,
            action: proof.action,
            archive: proof.archive,
            rows: proof.rows,
            reason: proof.reason,
            hash: proof.hash,
        }
    }
}
