//! Where a day's rows are, with the proof; and the archives themselves.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{Archive, Retention, State, queries};
use crate::{
    audit::hex,
    cold::Dataset,
    db::{self, Connection, OpenTransaction},
    error::{Error, Result},
};

/// The longest page of archives.
pub const MAX_PAGE: i64 = 1_000;

/// The most entries of the audit log that are named for a day.
const MAX_PROOF: i64 = 1_000;

/// Where a dataset's day is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the database.
    Hot,
    /// In archives.
    Cold,
    /// Some rows here, others there: what was written about an archived day later is in the database.
    Both,
    /// Nowhere any more: its time was up, or all of it was erased.
    Deleted,
    /// Nowhere, as there never was anything that the archives know of.
    Never,
}

impl Place {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
            Self::Both => "both",
            Self::Deleted => "deleted",
            Self::Never => "never",
        }
    }
}

/// A dataset's day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Whereabouts {
    /// Of which dataset.
    pub dataset: &'static str,
    /// The day.
    pub day: NaiveDate,
    /// Where it is.
    pub place: Place,
    /// How many rows are in the database.
    pub hot_rows: i64,
    /// How many are in archives.
    pub cold_rows: i64,
    /// Every archive there was of it.
    pub archives: Vec<ArchiveView>,
    /// What the audit log says of it, the oldest first.
    pub proof: Vec<Proof>,
}

/// An entry of the audit log about a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// How many rows it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The entry's hash.
    pub hash: String,
}

/// An archive as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveView {
    /// Its id.
    pub id: uuid::Uuid,
    /// Of which dataset.
    pub dataset: &'static str,
    /// Of which day.
    pub day: NaiveDate,
    /// Which of the day's parts.
    pub part: i32,
    /// How far it is.
    pub state: State,
    /// Where its object is, or was, below the store's address.
    pub object: String,
    /// How many rows; none before it was proved.
    pub rows: Option<i64>,
    /// The object's size.
    pub bytes: Option<i64>,
    /// The SHA-256 of the object.
    pub sha256: Option<String>,
    /// The digest of its content.
    pub content_sha256: Option<String>,
    /// Which archive it replaced.
    pub replaces: Option<uuid::Uuid>,
    /// When it was begun.
    pub began_at: DateTime<Utc>,
    /// When it was read back and compared.
    pub proved_at: Option<DateTime<Utc>>,
    /// When its rows left the database.
    pub archived_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why.
    pub end_reason: Option<String>,
    /// When its object was seen to be gone.
    pub removed_at: Option<DateTime<Utc>>,
}

impl From<&Archive> for ArchiveView {
    fn from(archive: &Archive) -> Self {
        let digest = |digest: &Option<Vec<u8>>| digest.as_deref().map(hex);
        Self {
            id: archive.id,
            dataset: archive.dataset.name(),
            day: archive.day,
            part: archive.part,
            state: archive.state,
            object: archive.object_key.clone(),
            rows: archive.rows,
            bytes: archive.bytes,
            sha256: digest(&archive.sha256),
            content_sha256: digest(&archive.content_sha256),
            replaces: archive.replaces,
            began_at: archive.began_at,
            proved_at: archive.proved_at,
            archived_at: archive.archived_at,
            ended_at: archive.ended_at,
            end_reason: archive.end_reason.clone(),
            removed_at: archive.removed_at,
        }
    }
}

/// Which archives are listed; what is `None` is no condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveFilter {
    /// Of which dataset.
    pub dataset: Option<Dataset>,
    /// From this day on.
    pub from: Option<NaiveDate>,
    /// Before this day.
    pub to: Option<NaiveDate>,
    /// In which state.
    pub state: Option<State>,
}

/// Where a page of archives ended. On the wire a text: `<day>.<dataset>.<part>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveCursor {
    day: NaiveDate,
    dataset: Dataset,
    part: i32,
}

impl fmt::Display for ArchiveCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.day, self.dataset, self.part)
    }
}

impl FromStr for ArchiveCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('.');
        let mut read = || {
            let day = parts.next()?.parse().ok()?;
            let dataset = Dataset::from_name(parts.next()?)?;
            let part = parts.next()?.parse().ok()?;
            parts
                .next()
                .is_none()
                .then_some(Self { day, dataset, part })
        };
        // One spelling only, as it is compared with what the database has.
        read()
            .filter(|cursor| cursor.to_string() == text)
            .ok_or_else(|| {
                let message =
                    "must be the cursor that the page before gave; leave it out to begin anew";
                Error::field("cursor", message)
            })
    }
}

/// A page of archives, by day, dataset and part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivePage {
    /// At most as many as asked for.
    pub archives: Vec<ArchiveView>,
    /// Where the next page begins, if there is one.
    pub next: Option<ArchiveCursor>,
}

impl Retention<'_> {
    /// Archives, by day, dataset and part; `limit` from 1 to [`MAX_PAGE`].
    pub async fn archives(
        &self,
        filter: &ArchiveFilter,
        limit: i64,
        after: Option<ArchiveCursor>,
    ) -> Result<ArchivePage> {
        if !(1..=MAX_PAGE).contains(&limit) {
            let message = format!("must be between 1 and {MAX_PAGE}");
            return Err(Error::field("limit", message));
        }
        let (found, next) = self.page(filter, limit, after).await?;
        Ok(ArchivePage {
            archives: found.iter().map(ArchiveView::from).collect(),
            next,
        })
    }

    pub(super) async fn page(
        &self,
        filter: &ArchiveFilter,
        limit: i64,
        after: Option<ArchiveCursor>,
    ) -> Result<(Vec<Archive>, Option<ArchiveCursor>)> {
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[
            &filter.dataset.map(Dataset::name),
            &filter.from,
            &filter.to,
            &filter.state.map(State::name),
            &after.map(|after| after.day),
            &after.map(|after| after.dataset.name()),
            &after.map(|after| after.part),
            // One more tells whether there is a next page.
            &(limit + 1),
        ];
        let rows = db::query(&connection, &queries::LIST, params).await?;
        let mut archives = rows
            .iter()
            .map(Archive::from_row)
            .collect::<Result<Vec<_>>>()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = archives.len() > limit;
        archives.truncate(limit);
        let next = archives.last().filter(|_| more).map(|last| ArchiveCursor {
            day: last.day,
            dataset: last.dataset,
            part: last.part,
        });
        Ok((archives, next))
    }

    pub(super) async fn archives_of_day(
        &self,
        dataset: Dataset,
        day: NaiveDate,
    ) -> Result<Vec<Archive>> {
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&dataset.name(), &day];
        let rows = db::query(&connection, &queries::OF_DAY, params).await?;
        rows.iter().map(Archive::from_row).collect()
    }

    /// Where a day's rows are, of one dataset or of each, and how that came about.
    pub async fn where_is(
        &self,
        day: NaiveDate,
        dataset: Option<Dataset>,
    ) -> Result<Vec<Whereabouts>> {
        let mut found = Vec::new();
        for each in Dataset::ALL {
            if dataset.is_none_or(|wanted| wanted == each) {
                found.push(self.whereabouts(each, day).await?);
            }
        }
        Ok(found)
    }

    async fn whereabouts(&self, dataset: Dataset, day: NaiveDate) -> Result<Whereabouts> {
        // One moment for rows and archives: what moves meanwhile is seen in one place.
        let begin = "begin isolation level repeatable read read only";
        let open = OpenTransaction::begin(self.pool, begin).await?;
        let seen = seen(open.connection()?, dataset, day).await;
        let (hot_rows, archives, proof) = open.end(seen).await?;
        let is_cold =
            |archive: &&Archive| matches!(archive.state, State::Archived | State::Detached);
        let cold_rows = archives
            .iter()
            .filter(is_cold)
            .filter_map(|archive| archive.rows)
            .sum();
        Ok(Whereabouts {
            dataset: dataset.name(),
            day,
            place: place(hot_rows, cold_rows, &archives),
            hot_rows,
            cold_rows,
            archives: archives.iter().map(ArchiveView::from).collect(),
            proof,
        })
    }
}

fn place(hot_rows: i64, cold_rows: i64, archives: &[Archive]) -> Place {
    match (hot_rows > 0, cold_rows > 0) {
        (true, true) => Place::Both,
        (true, false) => Place::Hot,
        (false, true) => Place::Cold,
        (false, false) => {
            // What was given up had not left the database.
            let had_rows = archives
                .iter()
                .any(|archive| archive.archived_at.is_some() && archive.rows.unwrap_or(0) > 0);
            if had_rows {
                Place::Deleted
            } else {
                Place::Never
            }
        }
    }
}

async fn seen(
    connection: &Connection,
    dataset: Dataset,
    day: NaiveDate,
) -> Result<(i64, Vec<Archive>, Vec<Proof>)> {
    let hot = match dataset {
        Dataset::Metrics => &queries::HOT_SAMPLES,
        Dataset::BackfillJobs => &queries::HOT_JOBS,
        Dataset::Feedback => &queries::HOT_FEEDBACK,
        Dataset::FeedbackHistory => &queries::HOT_HISTORY,
    };
    let rows: i64 = db::query_one(connection, hot, &[&day])
        .await?
        .try_get("rows")?;
    let params: db::Params<'_> = &[&dataset.name(), &day];
    let archives = db::query(connection, &queries::OF_DAY, params).await?;
    let archives = archives
        .iter()
        .map(Archive::from_row)
        .collect::<Result<Vec<_>>>()?;
    let subject = format!("{dataset}/{day}");
    let entries = db::query(connection, &queries::PROOF, &[&subject, &MAX_PROOF]).await?;
    let proof = entries
        .iter()
        .map(|row| {
            let details: Value = serde_json::from_str(row.try_get("details")?).unwrap_or_default();
            let text = |name: &str| details[name].as_str().map(str::to_owned);
            Ok(Proof {
                sequence: row.try_get("sequence")?,
                at: row.try_get("at")?,
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                archive: text("archive"),
                rows: details["rows"].as_i64(),
                reason: text("reason"),
                hash: hex(row.try_get("hash")?),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((rows, archives, proof))
}
