//! Moving a day of samples: its partition is detached, compared once more, and dropped.

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    Archive, Event, Moved, Retention,
    locks::while_locked,
    moving::{Doing, ROUNDS, Selection, is_refused, moved},
    queries,
};
use crate::{
    cold::{Dataset, SeriesNames},
    db,
    error::{Error, Result},
};

impl Retention<'_> {
    /// Archives a day of samples.
    pub(super) async fn move_samples(&self, doing: Doing<'_>, day: NaiveDate) -> Result<Moved> {
        let mut round = 1;
        loop {
            let moved = self.try_to_move_samples(doing, day).await;
            match moved {
                Err(error) if error.code() == "archive_changed" && round < ROUNDS => round += 1,
                moved => return moved,
            }
        }
    }

    async fn try_to_move_samples(&self, doing: Doing<'_>, day: NaiveDate) -> Result<Moved> {
        let selection = Selection {
            dataset: Dataset::Metrics,
            day,
            after_key: None,
            last_key: None,
            verified_at: Some(self.verified(day).await?),
        };
        let names = self.names_of(day).await?;
        let archive = self.copy_out(doing, selection, Some(&names)).await?;
        self.finish_samples(doing, &archive).await
    }

    /// Detaches, compares and drops the partition of a proved archive.
    pub(super) async fn finish_samples(
        &self,
        doing: Doing<'_>,
        archive: &Archive,
    ) -> Result<Moved> {
        self.tell(Event::Began {
            dataset: archive.dataset,
            day: archive.day,
            doing: "detaching",
        });
        if let Err(error) = self.with_locks(doing, &queries::DETACH_DAY, archive).await {
            self.give_up_if_refused(doing, archive.id, &error).await?;
            return Err(error);
        }
        self.drop_samples(doing, archive).await
    }

    /// Drops a detached day, or puts it back where it is not what was archived.
    pub(super) async fn drop_samples(&self, doing: Doing<'_>, archive: &Archive) -> Result<Moved> {
        self.tell(Event::Began {
            dataset: archive.dataset,
            day: archive.day,
            doing: "comparing and dropping",
        });
        if let Err(error) = self.with_locks(doing, &queries::DROP_DAY, archive).await {
            if is_refused(&error) {
                self.put_back(doing, archive, error.message()).await?;
            }
            return Err(error);
        }
        Ok(moved(archive))
    }

    /// Attaches a detached partition again.
    pub(super) async fn put_back(
        &self,
        doing: Doing<'_>,
        archive: &Archive,
        why: &str,
    ) -> Result<()> {
        while_locked(self.config.retention.lock_attempts, || async {
            let at = self.clock.now();
            let connection = self.pool.get().await?;
            let params: db::Params<'_> = &[&archive.id, &why, &at, &doing.actor];
            db::query_one(&connection, &queries::ATTACH_DAY, params).await?;
            Ok(())
        })
        .await
    }

    /// When a day's rollups were found equal to its samples; verifies it where that was not.
    async fn verified(&self, day: NaiveDate) -> Result<DateTime<Utc>> {
        if let Some(at) = self.day_verified(day).await? {
            return Ok(at);
        }
        self.tell(Event::Began {
            dataset: Dataset::Metrics,
            day,
            doing: "verifying rollups",
        });
        let verified = self.metrics.verify(day, true, self.clock.now()).await?;
        if let Some(at) = self.day_verified(day).await? {
            return Ok(at);
        }
        let (differing, waiting) = (verified.differing, verified.waiting);
        Err(Error::conflict(
            "rollups_not_verified",
            format!(
                "rollups of {day} are not known to equal its samples ({differing} differed, {waiting} hours wait to be rolled up again): see `metrics verify {day}`"
            ),
        ))
    }

    async fn day_verified(&self, day: NaiveDate) -> Result<Option<DateTime<Utc>>> {
        let connection = self.pool.get().await?;
        let row = db::query_opt(&connection, &queries::DAY_VERIFIED, &[&day]).await?;
        match row {
            Some(row) => Ok(row.try_get("verified_at")?),
            None => Err(refused_day(day)),
        }
    }

    /// What the series of a day are called.
    async fn names_of(&self, day: NaiveDate) -> Result<SeriesNames> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::SERIES_OF_DAY, &[&day]).await?;
        let mut names = SeriesNames::new();
        for row in &rows {
            names.insert(
                row.try_get("id")?,
                row.try_get::<_, String>("service_name")?,
                row.try_get::<_, String>("metric_type")?,
                row.try_get::<_, String>("unit")?,
                row.try_get::<_, String>("labels")?,
            );
        }
        Ok(names)
    }
}

fn refused_day(day: NaiveDate) -> Error {
    Error::conflict(
        "archive_state",
        format!("the samples of {day} are not in the database; look at `archive where-is {day}`"),
    )
}
