//! Comparing the statistics with the rows that they count.
//!
//! They cannot differ as long as triggers and folds are right. That they are is not believed but looked at, every night.

use super::{Counts, Feedback, queries};
use crate::{db, error::Result};

/// All feedback is read, which takes longer than a request may. What it holds up meanwhile is only the removal of dead rows.
const TIMEOUT: &str = "set local statement_timeout = '30min'; set local work_mem = '64MB'";

/// An insight whose statistics are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The insight.
    pub insight_id: String,
    /// What the statistics say.
    pub counted: Counts,
    /// What the rows say.
    pub there: Counts,
}

impl Feedback<'_> {
    /// Compares every insight in one snapshot; at most `limit` differences, none when all is well.
    pub async fn drift(&self, limit: i64) -> Result<Vec<Drift>> {
        let mut connection = self.pool.get().await?;
        let tx = connection
            .build_transaction()
            .read_only(true)
            .start()
            .await?;
        tx.batch_execute(TIMEOUT).await?;
        let rows = db::query(&tx, &queries::DRIFT, &[&limit]).await?;
        tx.commit().await?;
        rows.iter()
            .map(|row| {
                Ok(Drift {
                    insight_id: row.try_get("insight_id")?,
                    counted: Counts::from_row(row, "counted")?,
                    there: Counts::from_row(row, "there")?,
                })
            })
            .collect()
    }
}
