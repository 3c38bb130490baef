//! A run: what was begun is finished, what is due is done, what has ended is removed.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::json;

use super::{
    Action, Archive, Event, Failure, Plan, Report, Retention, Run, State, Step,
    moving::{Doing, is_refused},
    plan, queries,
};
use crate::{
    audit::{self, Entry, hex},
    cold::Dataset,
    db,
    error::{Error, Result},
    trace,
};

/// How long objects of archives that were given up are looked for again.
const SLOW_WRITERS: TimeDelta = TimeDelta::days(7);

/// The most objects that one run removes.
const REMOVED_A_RUN: i64 = 10_000;

impl Retention<'_> {
    /// Does what is due at `now`, for `actor` (who asked: goes into the audit log).
    ///
    /// What cannot be done is told in the report, and the rest is done. Fails with `retention_running` while another run
    /// goes on, with `no_cold_store` where there is nothing to archive to, and with `retention_run_over` where another run
    /// began because this one gave no sign of life.
    pub async fn run(&self, now: DateTime<Utc>, actor: &str) -> Result<Report> {
        self.cold()?;
        let run = self.begin_run(now, actor).await?;
        let doing = Doing { run, actor };
        let mut report = Report {
            run,
            began_at: now,
            ..Report::default()
        };
        let worked = tokio::select! {
            worked = self.work(doing, now, &mut report) => worked,
            lost = self.keep_lease(run) => Err(lost),
        };
        if let Err(error) = &worked {
            report.failures.push(Failure {
                dataset: "",
                day: None,
                step: "run",
                code: error.code(),
                message: error.message().to_owned(),
            });
        }
        self.end_run(doing, &report).await?;
        worked.map(|()| report)
    }

    /// The newest runs, the newest first.
    pub async fn runs(&self, limit: i64) -> Result<Vec<Run>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::RUNS, &[&limit]).await?;
        rows.iter()
            .map(|row| {
                Ok(Run {
                    id: row.try_get("id")?,
                    began_at: row.try_get("began_at")?,
                    began_by: row.try_get("began_by")?,
                    ended_at: row.try_get("ended_at")?,
                    outcome: row.try_get("outcome")?,
                    results: row.try_get("results")?,
                })
            })
            .collect()
    }

    async fn begin_run(&self, now: DateTime<Utc>, actor: &str) -> Result<i64> {
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        // The lease is a matter of clocks, not of the day that the run is about.
        let at = self.clock.now();
        let lost = db::query(&tx, &queries::LOSE_RUNS, &[&at, &(at + self.lease() * 10)]).await?;
        let lease = at + self.lease();
        let begun = db::query_opt(&tx, &queries::BEGIN_RUN, &[&at, &actor, &lease]).await?;
        let Some(begun) = begun else {
            return Err(Error::conflict(
                "retention_running",
                "retention is running; `retention status` shows since when",
            ));
        };
        let run: i64 = begun.try_get("id")?;
        let details = json!({ "run": run, "for": now.to_rfc3339(), "lost_runs": lost.len() });
        audit::append_in_tx(
            &tx,
            &Entry::new(at, actor, audit::Action::RunBegin, "retention", details),
        )
        .await?;
        tx.commit().await?;
        Ok(run)
    }

    async fn end_run(&self, doing: Doing<'_>, report: &Report) -> Result<()> {
        let at = self.clock.now();
        let outcome = if report.is_success() {
            "success"
        } else {
            "failed"
        };
        let results = serde_json::to_value(report)
            .map_err(|error| Error::internal("a report that is no JSON").with_source(error))?;
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        let params: db::Params<'_> = &[&doing.run, &at, &outcome, &results];
        db::execute(&tx, &queries::END_RUN, params).await?;
        let details = json!({
            "run": doing.run,
            "outcome": outcome,
            "archived_rows": report.archived.iter().map(|moved| moved.rows).sum::<i64>(),
            "expired_rows": report.expired.iter().map(|moved| moved.rows).sum::<i64>(),
            "removed_objects": report.removed_objects,
            "erased": report.erased,
            "failures": report.failures.len(),
        });
        let entry = Entry::new(at, doing.actor, audit::Action::RunEnd, "retention", details);
        audit::append_in_tx(&tx, &entry).await?;
        tx.commit().await?;
        Ok(())
    }

    fn lease(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.config.retention.lease_seconds))
    }

    /// Renews the lease of a run for as long as it is polled; ends when the run is another's.
    async fn keep_lease(&self, run: i64) -> Error {
        let pause = Duration::from_secs(u64::from(self.config.retention.lease_seconds)) / 4;
        loop {
            tokio::time::sleep(pause).await;
            let until = self.clock.now() + self.lease();
            let renewed = async {
                let connection = self.pool.get().await?;
                db::execute(&connection, &queries::RENEW_RUN, &[&run, &until]).await
            };
            match renewed.await {
                Ok(0) => {
                    return Error::conflict(
                        "retention_run_over",
                        "this run's lease was over, and another run goes on",
                    );
                }
                Ok(_) => {}
                // The next try may reach the database; the lease says until when there is time.
                Err(error) => tracing::warn!(%error, "the lease of retention could not be renewed"),
            }
        }
    }

    async fn work(&self, doing: Doing<'_>, now: DateTime<Utc>, report: &mut Report) -> Result<()> {
        self.resume(doing, report).await?;
        self.finish_erasures(doing, report).await?;
        self.remove_objects(doing, report).await?;
        let today = now.date_naive();
        let planned = self.plan(today).await?;
        self.note_plan(doing, &planned).await?;
        self.tell(Event::Planned(planned.clone()));
        for step in &planned.steps {
            match step.action {
                // What could not be finished above is not begun beside it.
                Action::Archive if is_stuck(report, step) => {}
                Action::Archive => {
                    let archiving = self.archive_step(doing, step, report);
                    trace::within(trace::step("retention.archive"), archiving).await?;
                }
                Action::Keep => report.kept.push(step.clone()),
                Action::Expire => {}
            }
        }
        // Asked again: what was archived now may have been due to go for long.
        let facts = self.cold_facts(today).await?;
        let expiring = plan(&self.policy, &facts, today).steps;
        for step in expiring.iter().filter(|step| step.action == Action::Expire) {
            let expiring = self.expire_step(doing, step, report);
            trace::within(trace::step("retention.expire"), expiring).await?;
        }
        self.remove_objects(doing, report).await
    }

    async fn note_plan(&self, doing: Doing<'_>, planned: &Plan) -> Result<()> {
        let count = |action| {
            let steps = planned.steps.iter().filter(|step| step.action == action);
            json!({ "steps": steps.clone().count(), "rows": steps.map(|step| step.rows).sum::<i64>() })
        };
        let details = json!({
            "run": doing.run, "day": planned.today, "boundaries": planned.boundaries,
            "archive": count(Action::Archive), "expire": count(Action::Expire), "keep": count(Action::Keep),
        });
        let entry = Entry::new(
            self.clock.now(),
            doing.actor,
            audit::Action::Plan,
            "retention",
            details,
        );
        let connection = self.pool.get().await?;
        audit::append_in_tx(&connection, &entry).await?;
        Ok(())
    }

    async fn archive_step(&self, doing: Doing<'_>, step: &Step, report: &mut Report) -> Result<()> {
        let done = if step.dataset == Dataset::Metrics {
            let moved = self.move_samples(doing, step.day).await;
            moved.map(|moved| self.note_archived(report, moved))
        } else {
            let mut all = Vec::new();
            let moved = self
                .move_rows(doing, step.dataset, step.day, |moved| all.push(moved))
                .await;
            for moved in all {
                self.note_archived(report, moved);
            }
            moved
        };
        self.settle(report, (step.dataset, step.day), "archive", done)
    }

    async fn expire_step(&self, doing: Doing<'_>, step: &Step, report: &mut Report) -> Result<()> {
        let done = self.expire(doing, step, report).await;
        self.settle(report, (step.dataset, step.day), "expire", done)
    }

    /// A step that failed is told; a run that is another's, or a store that is away, ends the run.
    fn settle(
        &self,
        report: &mut Report,
        (dataset, day): (Dataset, NaiveDate),
        what: &'static str,
        done: Result<()>,
    ) -> Result<()> {
        let Err(error) = done else {
            return Ok(());
        };
        tracing::warn!(dataset = dataset.name(), day = %day, step = what, error = %error.report(), "a step of retention failed");
        let failure = Failure::of(dataset, day, what, &error);
        self.tell(Event::Failed(failure.clone()));
        report.failures.push(failure);
        let is_hopeless = matches!(
            error.code(),
            "retention_run_over" | "cold_store_unavailable"
        );
        if is_hopeless || error.is_without_database() {
            return Err(error);
        }
        Ok(())
    }

    fn note_archived(&self, report: &mut Report, moved: super::Moved) {
        tracing::info!(
            dataset = moved.dataset, day = %moved.day, rows = moved.rows, bytes = moved.bytes, object = moved.object,
            "archived"
        );
        self.tell(Event::Done(moved.clone()));
        report.archived.push(moved);
    }

    /// Goes on with what an earlier run began.
    async fn resume(&self, doing: Doing<'_>, report: &mut Report) -> Result<()> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::NOT_FINISHED, &[]).await?;
        drop(connection);
        for row in &rows {
            let archive = Archive::from_row(row)?;
            report.resumed += 1;
            match self.resume_one(doing, &archive).await {
                Ok(None) => {}
                Ok(Some(moved)) => self.note_archived(report, moved),
                Err(error) => {
                    let of = (archive.dataset, archive.day);
                    self.settle(report, of, "resume", Err(error))?;
                }
            }
        }
        Ok(())
    }

    /// What of an archive that was not finished went to cold storage now; none where it was given up.
    async fn resume_one(
        &self,
        doing: Doing<'_>,
        archive: &Archive,
    ) -> Result<Option<super::Moved>> {
        if archive.state == State::Writing || archive.replaces.is_some() {
            let why = "the run that began it did not finish it";
            return self.give_up(doing, archive.id, why).await.map(|()| None);
        }
        if let Err(error) = self.prove_again(archive).await {
            let is_lost = matches!(
                error.code(),
                "cold_object_differs" | "cold_object_missing" | "cold_object_damaged"
            );
            if !is_lost {
                return Err(error);
            }
            tracing::error!(object = archive.object_key, error = %error.report(), "an object that had been proved is not what it was");
            return match archive.state {
                State::Detached => self.put_back(doing, archive, error.message()).await,
                _ => self.give_up(doing, archive.id, error.message()).await,
            }
            .map(|()| None);
        }
        let moved = match (archive.state, archive.dataset) {
            (State::Detached, _) => self.drop_samples(doing, archive).await,
            (_, Dataset::Metrics) => self.finish_samples(doing, archive).await,
            _ => self.finish_rows(doing, archive).await,
        };
        match moved {
            // It was given up, or put back: what is due is found due again.
            Err(error) if is_refused(&error) => Ok(None),
            moved => moved.map(Some),
        }
    }

    /// Removes the objects of archives that have ended.
    pub(super) async fn remove_objects(&self, doing: Doing<'_>, report: &mut Report) -> Result<()> {
        let since = self.clock.now() - SLOW_WRITERS;
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::TO_REMOVE, &[&since, &REMOVED_A_RUN]).await?;
        drop(connection);
        for row in &rows {
            let archive = Archive::from_row(row)?;
            let removed = self.remove_object(doing.actor, &archive).await;
            report.removed_objects += u64::from(removed.is_ok() && archive.removed_at.is_none());
            self.settle(report, (archive.dataset, archive.day), "remove", removed)?;
        }
        Ok(())
    }

    pub(super) async fn remove_object(&self, actor: &str, archive: &Archive) -> Result<()> {
        let cold = self.cold()?;
        cold.remove(archive.key()?).await?;
        if let Some(sha256) = &archive.sha256 {
            cold.forget(&hex(sha256));
        }
        if archive.removed_at.is_some() {
            return Ok(());
        }
        let at = self.clock.now();
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&archive.id, &at, &actor];
        db::query_one(&connection, &queries::NOTE_REMOVED, params)
            .await
            .map_err(super::refused)?;
        Ok(())
    }
}

/// Whether an archive of the day was to be finished in this run, and could not be.
fn is_stuck(report: &Report, step: &Step) -> bool {
    report.failures.iter().any(|failure| {
        failure.step == "resume"
            && failure.dataset == step.dataset.name()
            && failure.day == Some(step.day)
    })
}
