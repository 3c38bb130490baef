//! What is there: days that are due, and archives.

use chrono::NaiveDate;

use super::{ColdArchive, Facts, HotDay, Plan, Retention, plan, queries};
use crate::{
    cold::Dataset,
    db::{self, Connection},
    error::Result,
};

/// The most days of a dataset that one plan is about, and the most archives; the next run goes on. What is held comes last, so
/// that it keeps nothing else from its time.
const MAX_DAYS: i64 = 20_000;

impl Retention<'_> {
    /// What a run on `today` would do, and why.
    pub async fn plan(&self, today: NaiveDate) -> Result<Plan> {
        let facts = self.facts(today).await?;
        Ok(plan(&self.policy, &facts, today))
    }

    /// What is there that is due on `today`.
    pub async fn facts(&self, today: NaiveDate) -> Result<Facts> {
        let mut facts = self.cold_facts(today).await?;
        let connection = self.pool.get().await?;
        for dataset in Dataset::ALL {
            facts
                .hot
                .extend(self.due(&connection, dataset, today).await?);
        }
        Ok(facts)
    }

    /// What of it is in cold storage: of what is in the database it says nothing.
    pub(super) async fn cold_facts(&self, today: NaiveDate) -> Result<Facts> {
        let connection = self.pool.get().await?;
        let mut facts = Facts::default();
        let holds = db::query_one(&connection, &queries::HOLDS_ROWS, &[]).await?;
        facts.holds_rows = holds.try_get("holds")?;
        for dataset in Dataset::ALL {
            facts
                .cold
                .extend(self.cold_of(&connection, dataset, today).await?);
        }
        Ok(facts)
    }

    async fn due(
        &self,
        connection: &Connection,
        dataset: Dataset,
        today: NaiveDate,
    ) -> Result<Vec<HotDay>> {
        let before = self.policy.hot_from(dataset, today);
        let rows = db::query(connection, queries::due(dataset), &[&before, &MAX_DAYS]).await?;
        rows.iter()
            .map(|row| {
                Ok(HotDay {
                    dataset,
                    day: row.try_get("day")?,
                    rows: row.try_get("rows")?,
                    held_rows: row.try_get("held_rows")?,
                    is_held: row.try_get("is_held")?,
                })
            })
            .collect()
    }

    pub(super) async fn cold_of(
        &self,
        connection: &Connection,
        dataset: Dataset,
        today: NaiveDate,
    ) -> Result<Vec<ColdArchive>> {
        let before = self.policy.cold_from(dataset, today);
        let params: db::Params<'_> = &[&dataset.name(), &before, &MAX_DAYS];
        let rows = db::query(connection, &queries::COLD_BEFORE, params).await?;
        rows.iter()
            .map(|row| {
                Ok(ColdArchive {
                    id: row.try_get("id")?,
                    dataset,
                    day: row.try_get("day")?,
                    rows: row.try_get("rows")?,
                    is_held: row.try_get("is_held")?,
                })
            })
            .collect()
    }
}
