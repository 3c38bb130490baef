//! Ending archives whose time is up.

use super::{
    Event, Report, Retention, Step,
    moving::{Doing, moved},
    queries, refused,
};
use crate::{
    db,
    error::{Error, Result},
};

impl Retention<'_> {
    /// Ends an archive: from then on nothing is read of it. Its object goes afterwards, and again when that fails.
    pub(super) async fn expire(
        &self,
        doing: Doing<'_>,
        step: &Step,
        report: &mut Report,
    ) -> Result<()> {
        let id = step
            .archive
            .ok_or_else(|| Error::internal("an expiry without its archive"))?;
        let archive = self.archive(id).await?;
        self.tell(Event::Began {
            dataset: step.dataset,
            day: step.day,
            doing: "expiring",
        });
        let at = self.clock.now();
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&doing.run, &id, &step.reason, &at, &doing.actor];
        db::query_one(&connection, &queries::EXPIRE, params)
            .await
            .map_err(refused)?;
        drop(connection);
        let moved = moved(&archive)?;
        tracing::info!(dataset = moved.dataset, day = %moved.day, rows = moved.rows, object = moved.object, "expired");
        self.tell(Event::Done(moved.clone()));
        report.expired.push(moved);
        Ok(())
    }
}
