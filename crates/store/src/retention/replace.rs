//! Writing an archive anew without some of its rows.
//!
//! The new object goes the way of every other one: recorded, written, read back and compared. Only then is it put in the
//! place of the old one, in one transaction that sees the old one as it was. Killed before that, the old one is as it was, and
//! the next run gives the new one up; killed after it, the old object is removed by whoever comes next.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;

use super::{Archive, Retention, queries, refused};
use crate::{
    clock::uuid_at,
    cold::{Dataset, Fetched, RowView},
    db,
    error::{Error, Result},
};

/// Which rows of an archive leave it.
#[derive(Debug, Clone)]
pub(super) enum Leaving {
    /// Those of a user, who is erased.
    Of(String),
    /// All but those under a hold, as their time is up.
    NotHeld(Arc<HeldNames>),
}

impl Leaving {
    fn has(&self, row: &RowView<'_>) -> bool {
        match self {
            Self::Of(user) => row.text("user_id") == Some(user),
            Self::NotHeld(names) => !names.hold(row),
        }
    }
}

/// Users and insights under a hold.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldNames {
    users: HashSet<String>,
    insights: HashSet<String>,
}

impl HeldNames {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.insights.is_empty()
    }

    pub fn hold(&self, row: &RowView<'_>) -> bool {
        self.hold_either(row.text("user_id"), row.text("insight_id"))
    }

    pub fn hold_either(&self, user: Option<&str>, insight: Option<&str>) -> bool {
        user.is_some_and(|user| self.users.contains(user))
            || insight.is_some_and(|insight| self.insights.contains(insight))
    }
}

/// Whether a dataset's rows are of users and insights.
pub(super) fn is_of_people(dataset: Dataset) -> bool {
    matches!(dataset, Dataset::Feedback | Dataset::FeedbackHistory)
}

impl Retention<'_> {
    pub(super) async fn held_names(&self) -> Result<HeldNames> {
        let connection = self.pool.get().await?;
        let mut names = HeldNames::default();
        for row in db::query(&connection, &queries::HELD_NAMES, &[]).await? {
            names
                .users
                .extend(row.try_get::<_, Option<String>>("user_id")?);
            names
                .insights
                .extend(row.try_get::<_, Option<String>>("insight_id")?);
        }
        Ok(names)
    }

    /// A copy of an archive's object whose hash is right.
    pub(super) async fn fetch(&self, archive: &Archive) -> Result<Fetched> {
        self.cold()?.fetch(&archive.stored()?).await
    }

    /// Puts an archive without the rows that leave in the place of one that has them. Gives how many left.
    ///
    /// Fails with `archive_state` where somebody else ended the one or the other meanwhile, and with `legal_hold`.
    pub(super) async fn replace(
        &self,
        run: Option<i64>,
        actor: &str,
        archive: &Archive,
        from: &Fetched,
        leaving: Leaving,
        why: &str,
    ) -> Result<i64> {
        let new = self.begin_replacement(run, archive).await?;
        let replaced = self
            .write_replacement(run, actor, &new, from, leaving, why)
            .await;
        if replaced.is_err() {
            // The next run gives it up, too.
            if let Err(error) = self.give_up_anyway(actor, new.id).await {
                tracing::warn!(object = new.object_key, error = %error.report(), "a replacement that failed is left to the next run");
            }
        }
        replaced
    }

    async fn begin_replacement(&self, run: Option<i64>, archive: &Archive) -> Result<Archive> {
        let at = self.clock.now();
        let id = uuid_at(at);
        let key = self.new_key(archive.dataset, archive.day, id).await?;
        let no_key: Option<&str> = None;
        let no_time: Option<chrono::DateTime<chrono::Utc>> = None;
        let params: db::Params<'_> = &[
            &run,
            &id,
            &archive.dataset.name(),
            &archive.day,
            &key.to_string(),
            &no_key,
            &no_key,
            &no_time,
            &Some(archive.id),
            &at,
        ];
        let connection = self.pool.get().await?;
        db::query_one(&connection, &queries::BEGIN, params)
            .await
            .map_err(refused)?;
        drop(connection);
        self.archive(id).await
    }

    async fn write_replacement(
        &self,
        run: Option<i64>,
        actor: &str,
        new: &Archive,
        from: &Fetched,
        leaving: Leaving,
        why: &str,
    ) -> Result<i64> {
        let key = new.key()?;
        let erased = match &leaving {
            Leaving::Of(user) => Some(user.clone()),
            Leaving::NotHeld(_) => None,
        };
        let given = self.all_rows(from).await?;
        let written = self
            .cold()?
            .rewrite(from, key, move |row| !leaving.has(row))
            .await?;
        self.cold()?.prove(key, &written).await?;
        self.record(run, actor, new.id, key, &written).await?;
        let at = self.clock.now();
        let count = i64::try_from(given.len()).unwrap_or(i64::MAX)
            - i64::try_from(written.rows).unwrap_or_default();
        let given = Value::Array(given);
        let params: db::Params<'_> = &[&new.id, &why, &given, &erased, &at, &actor];
        let connection = self.pool.get().await?;
        db::query_one(&connection, &queries::REPLACE, params)
            .await
            .map_err(refused)?;
        Ok(count)
    }

    /// All rows of an archive: the database compares their digest with what was archived.
    async fn all_rows(&self, from: &Fetched) -> Result<Vec<Value>> {
        let mut rows = from.rows()?;
        let mut all = Vec::new();
        while let Some(batch) = rows.next().await? {
            all.extend(batch);
        }
        Ok(all)
    }

    async fn give_up_anyway(&self, actor: &str, id: uuid::Uuid) -> Result<()> {
        let doing = super::moving::Doing { run: 0, actor };
        let why = "it was not put in the place of the one that it was to replace";
        match self.give_up(doing, id, why).await {
            Err(error) if error.code() == "archive_state" => Ok(()),
            given_up => given_up,
        }
    }

    /// All rows of an archive, and how many of them are held.
    pub(super) async fn whose(
        &self,
        from: &Fetched,
        held: &HeldNames,
    ) -> Result<(Vec<Value>, i64)> {
        let all = self.all_rows(from).await?;
        let held_rows = all
            .iter()
            .filter(|row| held.hold_either(row["user_id"].as_str(), row["insight_id"].as_str()))
            .count();
        Ok((all, i64::try_from(held_rows).unwrap_or(i64::MAX)))
    }
}

/// What somebody else did meanwhile, which a second look takes into account.
pub(super) fn is_overtaken(error: &Error) -> bool {
    matches!(error.code(), "archive_state" | "archive_changed")
}
