//! Ending archives whose time is up.
//!
//! What is under a hold of its user or insight stays: such an archive is written anew with those rows only. Where all of
//! them are held it is left as it is, and looked into again by the next run.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Action, Archive, Event, Moved, Report, Retention, Step,
    moving::{Doing, moved},
    queries, refused,
    replace::{Leaving, is_of_people},
};
use crate::{
    db,
    error::{Error, Result},
};

impl Retention<'_> {
    /// Ends an archive, or what of it is not held: from then on nothing is read of it. Its object goes afterwards, and again
    /// when that fails.
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
        let held = Arc::new(self.held_names().await?);
        if !is_of_people(archive.dataset) || held.is_empty() {
            self.end(doing, &archive, None, &step.reason).await?;
            self.note_expired(report, moved(&archive));
            return Ok(());
        }
        let fetched = self.fetch(&archive).await?;
        let (whose, held_rows) = self.whose(&fetched, &held).await?;
        let rows = archive.rows.unwrap_or_default();
        if held_rows == 0 {
            let whose = Some(Value::Array(whose));
            self.end(doing, &archive, whose, &step.reason).await?;
            self.note_expired(report, moved(&archive));
            return Ok(());
        }
        if held_rows < rows {
            let leaving = Leaving::NotHeld(held);
            let run = Some(doing.run);
            let gone = self
                .replace(run, doing.actor, &archive, &fetched, leaving, &step.reason)
                .await?;
            let all = moved(&archive);
            self.note_expired(report, Moved { rows: gone, ..all });
        }
        report.kept.push(Step {
            action: Action::Keep,
            rows: held_rows,
            reason: "their user or insight is under a legal hold".to_owned(),
            ..step.clone()
        });
        Ok(())
    }

    async fn end(
        &self,
        doing: Doing<'_>,
        archive: &Archive,
        whose: Option<Value>,
        why: &str,
    ) -> Result<()> {
        let at = self.clock.now();
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&doing.run, &archive.id, &whose, &why, &at, &doing.actor];
        db::query_one(&connection, &queries::EXPIRE, params)
            .await
            .map_err(refused)?;
        Ok(())
    }

    fn note_expired(&self, report: &mut Report, moved: Moved) {
        tracing::info!(dataset = moved.dataset, day = %moved.day, rows = moved.rows, object = moved.object, "expired");
        self.tell(Event::Done(moved.clone()));
        report.expired.push(moved);
    }
}
