//! The review queue: insights that users have flagged.
//!
//! It is computed from the flagged entries alone, which have an index of their own: among a million entries of which few are
//! flagged, only those few are read. The flags themselves, one by one, are found by [`Feedback::search`] with a flag.

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::Timestamp};

use super::{
    Cursor, Feedback, FlagType, Page,
    page::{self, Position},
    queries,
};
use crate::error::{Error, Result};

/// Which flags count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlaggedFilter {
    /// Only those of this type.
    pub flag_type: Option<FlagType>,
    /// Only those on this insight.
    pub insight_id: Option<String>,
    /// Only those set or last changed at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those set or last changed before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A flagged insight.
#[derive(Debug, Clone, PartialEq)]
pub struct FlaggedInsight {
    /// The insight.
    pub insight_id: String,
    /// How many flags of each type match, in the order of [`FlagType::ALL`].
    pub flags: [i64; 5],
    /// How many match in all.
    pub total_flags: i64,
    /// When the oldest of them was set or last changed.
    pub first_flagged_at: DateTime<Utc>,
    /// When the latest of them was set or last changed.
    pub last_flagged_at: DateTime<Utc>,
    /// The latest five of them that have a reason, latest first.
    pub latest_reasons: Vec<FlagReason>,
    /// How many ratings the insight has.
    pub total_ratings: i64,
    /// Their mean; `None` without ratings.
    pub average_rating: Option<f64>,
}

/// Why a user flagged an insight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagReason {
    /// The flag's type.
    pub flag_type: FlagType,
    /// What the user wrote.
    pub reason: String,
    /// When the flag was set or last changed.
    pub flagged_at: DateTime<Utc>,
    /// Who.
    pub user_id: String,
}

/// A page of the review queue.
#[derive(Debug, Clone, PartialEq)]
pub struct FlaggedInsights {
    /// The page.
    pub insights: Vec<FlaggedInsight>,
    /// How many insights have a matching flag, on this page and others.
    pub total: i64,
    /// Leads to the next page; `None` on the last one.
    pub next: Option<Cursor>,
}

impl Feedback<'_> {
    /// Insights with matching flags: those with the most first, among equals the latest flagged.
    pub async fn flagged(&self, filter: &FlaggedFilter, page: &Page) -> Result<FlaggedInsights> {
        let (limit, offset) = page.bounds()?;
        let (total_flags, last_flagged_at, insight_id) = match page.position() {
            None => (i64::MAX, Timestamp::PosInfinity, ""),
            Some(Position::Flagged {
                total_flags,
                last_flagged_at,
                insight_id,
            }) => (
                *total_flags,
                Timestamp::Value(*last_flagged_at),
                insight_id.as_str(),
            ),
            Some(_) => return Err(page::of_another_list()),
        };
        let rows = self
            .reads
            .query(
                &queries::FLAGGED,
                &[
                    &filter.flag_type.map(FlagType::as_str),
                    &filter.insight_id,
                    &page::bound(filter.from, Timestamp::NegInfinity),
                    &page::bound(filter.to, Timestamp::PosInfinity),
                    &total_flags,
                    &last_flagged_at,
                    &insight_id,
                    &limit,
                    &offset,
                ],
            )
            .await?;
        let first = rows
            .first()
            .ok_or_else(|| Error::internal("a page came without its total"))?;
        let total = first.try_get("total")?;
        let mut insights = match first.try_get::<_, Option<&str>>("insight_id")? {
            None => Vec::new(),
            Some(_) => rows
                .iter()
                .map(FlaggedInsight::from_row)
                .collect::<Result<_>>()?,
        };
        let more = page.cut(&mut insights);
        let last = insights.last().filter(|_| more);
        let next = last.map(|last| {
            Cursor(Position::Flagged {
                total_flags: last.total_flags,
                last_flagged_at: last.last_flagged_at,
                insight_id: last.insight_id.clone(),
            })
        });
        Ok(FlaggedInsights {
            insights,
            total,
            next,
        })
    }
}

impl FlaggedInsight {
    fn from_row(row: &Row) -> Result<Self> {
        let ratings: i64 = row.try_get("ratings")?;
        let rating_sum: i64 = row.try_get("rating_sum")?;
        Ok(Self {
            insight_id: row.try_get("insight_id")?,
            flags: [
                row.try_get("inaccurate")?,
                row.try_get("misleading")?,
                row.try_get("spam")?,
                row.try_get("inappropriate")?,
                row.try_get("other")?,
            ],
            total_flags: row.try_get("total_flags")?,
            first_flagged_at: row.try_get("first_flagged_at")?,
            last_flagged_at: row.try_get("last_flagged_at")?,
            latest_reasons: latest_reasons(row)?,
            total_ratings: ratings,
            average_rating: (ratings > 0).then(|| rating_sum as f64 / ratings as f64),
        })
    }
}

/// Reads four arrays of one length; they are null where there is no reason.
fn latest_reasons(row: &Row) -> Result<Vec<FlagReason>> {
    let Some(types) = row.try_get::<_, Option<Vec<&str>>>("flag_types")? else {
        return Ok(Vec::new());
    };
    let reasons: Vec<String> = row.try_get("flag_reasons")?;
    let times: Vec<DateTime<Utc>> = row.try_get("flagged_ats")?;
    let users: Vec<String> = row.try_get("user_ids")?;
    types
        .into_iter()
        .zip(reasons)
        .zip(times.into_iter().zip(users))
        .map(|((kind, reason), (flagged_at, user_id))| {
            Ok(FlagReason {
                flag_type: FlagType::from_stored(kind)?,
                reason,
                flagged_at,
                user_id,
            })
        })
        .collect()
}
