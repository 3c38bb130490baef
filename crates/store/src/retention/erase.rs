//! Erasing a person: out of the database at once, then out of every archive, with a certificate in the audit log.
//!
//! # What it guarantees
//!
//! * When the certificate is written, nothing that the person gave was left: no row of feedback or its history, none in an
//!   archive, no object that had one. Whoever else has rows in the same archives has the very same ones afterwards.
//! * Statistics are exact at every moment: live ones through the triggers of the table, those of retired rows because the
//!   archive and its sums change in one transaction.
//! * What was begun is finished: it is recorded before anything is erased, and each run of retention goes on with it.
//! * Neither the audit log nor a certificate names the person. The record of the erasure does, until it is finished.
//!
//! # Who may be doing something else
//!
//! ```text
//! an archive is under way that has copied a row   its deletion finds the row gone and gives the copy up; or was first: then
//!                                                 it is an archive like any other when archives are listed
//! one that was copied and not finished            is given up, and its object removed, as it may have the person's rows
//! somebody restores an archive                    it is no archive any more when it is to be replaced: looked for again,
//!                                                 its rows are in the database, from which they go in the next round
//! the person writes on                            the certificate is refused while there is a row: another round
//! ```
//!
//! A legal hold on anything that is in the database refuses it as a whole. One on archives only, or one that is placed half way,
//! stops it there: the rest goes when the hold is released. An archive that cannot be read stops nothing but the certificate.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    Archive, Event, Failure, Report, Retention, State, Step,
    moving::Doing,
    queries, refused,
    replace::{Leaving, is_overtaken},
};
use crate::{
    audit::{Action, Audit, hex},
    clock::uuid_at,
    cold::Dataset,
    db::{self, OpenTransaction},
    error::{Error, Result},
};

/// How often everything is looked for again, because something came meanwhile.
const ROUNDS: u32 = 10;

/// How many users are compared with a pseudonym at once.
const USERS_AT_ONCE: i64 = 10_000;

/// How many archives a certificate lists in the audit log, whose entries are bounded. It has the digest of all.
const LISTED: usize = 100;

/// What was done, and the proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The erasure.
    pub erasure: Uuid,
    /// Who, as the audit log calls that person.
    pub pseudonym: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// Who asked.
    pub requested_by: String,
    /// When it was done.
    pub finished_at: DateTime<Utc>,
    /// Rows of feedback that were taken out of the database.
    pub feedback_rows: i64,
    /// Acts that were taken out of its history.
    pub history_rows: i64,
    /// Rows that were taken out of archives.
    pub archived_rows: i64,
    /// The archives that were written anew.
    pub archives: Vec<Rewritten>,
    /// SHA-256 over `archives` as JSON without spaces, as the log has it.
    pub archives_sha256: String,
    /// The certificate's number in the audit log.
    pub audited_as: i64,
}

/// An archive that was written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    /// Of which dataset.
    pub dataset: String,
    /// Of which day.
    pub day: NaiveDate,
    /// The archive that had the rows. Its object is gone.
    pub old: Uuid,
    /// The one in its place.
    pub new: Uuid,
    /// How many rows it lacks.
    pub dropped_rows: i64,
    /// The hash of the old object.
    pub old_sha256: String,
    /// The hash of the new one.
    pub new_sha256: String,
    /// The digest of the old content.
    pub old_content_sha256: String,
    /// The digest of the new content.
    pub new_content_sha256: String,
}

/// An erasure under way.
#[derive(Debug, Clone, Copy)]
struct Erasing<'a> {
    id: Uuid,
    user: &'a str,
    actor: &'a str,
    /// The run that goes on with it; none where it was asked for by itself.
    run: Option<i64>,
}

/// What a look at all archives has left to be done.
#[derive(Debug, Default)]
struct Look {
    /// Something was changed, or somebody else was first: everything is looked for again.
    again: bool,
    /// What may not be erased now.
    held: Option<Error>,
    /// Archives that could not be read or removed, and why.
    failed: Vec<(String, Error)>,
}

impl Retention<'_> {
    /// Erases a person's feedback, wherever it is, and certifies it. Called again, it goes on where it stopped.
    ///
    /// # Errors
    ///
    /// `legal_hold` where something of it is under a hold, which is noted in the audit log; `erasure_running` where another
    /// one is under way: this one is recorded, what is in the database is erased, and the next run goes on;
    /// `no_pseudonym_key`; `no_cold_store` where there are archives and no store is configured.
    pub async fn erase(
        &self,
        user_id: &str,
        now: DateTime<Utc>,
        actor: &str,
    ) -> Result<Certificate> {
        super::holds::check_name("user_id", user_id)?;
        let pseudonym = self.pseudonym(user_id)?;
        let begun = self.begin_erasure(user_id, &pseudonym, now, actor).await;
        let erased = match begun {
            Ok(id) => {
                let erasing = Erasing {
                    id,
                    user: user_id,
                    actor,
                    run: None,
                };
                self.go_on_erasing(erasing).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &erased
            && error.code() == "legal_hold"
        {
            let audit = Audit::new(self.pool);
            audit
                .denied(self.clock.now(), actor, Action::Erase, &pseudonym, error)
                .await?;
        }
        erased
    }

    /// Whose pseudonym it is, of all who are being erased or have rows in the database; none where it is nobody's.
    pub async fn user_of(&self, pseudonym: &str) -> Result<Option<String>> {
        // Who is being erased has no rows there any more, and may have some in archives.
        let connection = self.pool.get().await?;
        let erasing = db::query(&connection, &queries::ERASURES, &[]).await?;
        drop(connection);
        for row in &erasing {
            let user: String = row.try_get("user_id")?;
            if self.pseudonym(&user)? == pseudonym {
                return Ok(Some(user));
            }
        }
        let mut after = String::new();
        loop {
            let connection = self.pool.get().await?;
            let params: db::Params<'_> = &[&after, &USERS_AT_ONCE];
            let rows = db::query(&connection, &queries::USERS_AFTER, params).await?;
            drop(connection);
            let Some(last) = rows.last() else {
                return Ok(None);
            };
            after = last.try_get("user_id")?;
            for row in &rows {
                let user: &str = row.try_get("user_id")?;
                if self.pseudonym(user)? == pseudonym {
                    return Ok(Some(user.to_owned()));
                }
            }
        }
    }

    /// Goes on with erasures that were begun and not finished.
    pub(super) async fn finish_erasures(
        &self,
        doing: Doing<'_>,
        report: &mut Report,
    ) -> Result<()> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::ERASURES, &[]).await?;
        drop(connection);
        for row in &rows {
            let user: String = row.try_get("user_id")?;
            let erasing = Erasing {
                id: row.try_get("id")?,
                user: &user,
                actor: doing.actor,
                run: Some(doing.run),
            };
            match self.go_on_erasing(erasing).await {
                Ok(_) => report.erased += 1,
                // Nothing has failed: it goes on when the hold is released.
                Err(error) if error.code() == "legal_hold" => report.kept.push(Step {
                    dataset: Dataset::Feedback,
                    day: report.began_at.date_naive(),
                    action: super::Action::Keep,
                    rows: 0,
                    reason: "the erasure of a person waits for a legal hold".to_owned(),
                    archive: None,
                }),
                Err(error) => {
                    tracing::warn!(erasure = %erasing.id, error = %error.report(), "an erasure could not be finished");
                    report.failures.push(Failure {
                        dataset: "feedback",
                        day: None,
                        step: "erase",
                        code: error.code(),
                        message: error.message().to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    async fn begin_erasure(
        &self,
        user_id: &str,
        pseudonym: &str,
        now: DateTime<Utc>,
        actor: &str,
    ) -> Result<Uuid> {
        for _ in 0..ROUNDS {
            let connection = self.pool.get().await?;
            let params: db::Params<'_> = &[&uuid_at(now), &user_id, &pseudonym, &now, &actor];
            let begun = db::query_one(&connection, &queries::BEGIN_ERASURE, params)
                .await
                .map_err(refused)?;
            // None where another one of this user ended at this very moment.
            if let Some(id) = begun.try_get::<_, Option<Uuid>>("id")? {
                return Ok(id);
            }
        }
        Err(unfinished(None))
    }

    async fn go_on_erasing(&self, erasing: Erasing<'_>) -> Result<Certificate> {
        self.erase_hot(erasing).await?;
        // One at a time: what another one is writing may have this person's rows.
        let alone = OpenTransaction::begin(self.pool, "begin").await?;
        let row = db::query_one(alone.connection()?, &queries::ERASE_ALONE, &[]).await?;
        let erased = if row.try_get("alone")? {
            self.erase_all(erasing).await
        } else {
            Err(Error::conflict(
                "erasure_running",
                "another erasure is under way; this one is recorded, what is in the database is erased, and the next run of retention goes on: or ask again later",
            ))
        };
        alone.end(erased).await
    }

    async fn erase_all(&self, erasing: Erasing<'_>) -> Result<Certificate> {
        let mut without = HashSet::new();
        let mut last = None;
        for _ in 0..ROUNDS {
            let look = self
                .erase_archived(erasing, &mut without, &mut last)
                .await?;
            if let Some(held) = look.held {
                return Err(held);
            }
            // Written meanwhile, or restored.
            let came = self.erase_hot(erasing).await?;
            if look.again || came {
                continue;
            }
            if !look.failed.is_empty() {
                return Err(unreadable(look.failed));
            }
            match self.certify(erasing).await {
                Err(error) if error.code() == "archive_changed" => last = Some(error),
                certified => return certified,
            }
        }
        Err(unfinished(last))
    }

    /// Whether there was anything.
    async fn erase_hot(&self, erasing: Erasing<'_>) -> Result<bool> {
        let connection = self.pool.get().await?;
        let at = self.clock.now();
        let params: db::Params<'_> = &[&erasing.id, &at, &erasing.actor];
        let row = db::query_one(&connection, &queries::ERASE_HOT, params)
            .await
            .map_err(refused)?;
        let (feedback, history): (i64, i64) = (row.try_get("feedback")?, row.try_get("history")?);
        Ok(feedback + history > 0)
    }

    /// Looks at every object that may have the person's rows, and sees to it that it has none or is gone.
    async fn erase_archived(
        &self,
        erasing: Erasing<'_>,
        without: &mut HashSet<Uuid>,
        last: &mut Option<Error>,
    ) -> Result<Look> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::PERSONAL, &[]).await?;
        drop(connection);
        let mut look = Look::default();
        for row in &rows {
            let archive = Archive::from_row(row)?;
            if without.contains(&archive.id) {
                continue;
            }
            match self.erase_from(erasing, &archive).await {
                Ok(changed) => {
                    look.again |= changed;
                    if archive.state == State::Archived && !changed {
                        without.insert(archive.id);
                    }
                }
                Err(error) if error.code() == "legal_hold" => look.held = Some(error),
                Err(error) if is_overtaken(&error) => {
                    look.again = true;
                    *last = Some(error);
                }
                Err(error) if error.is_without_database() => return Err(error),
                Err(error) => {
                    // An object that is gone since its archive ended is nothing that failed.
                    if self.archive(archive.id).await?.state == archive.state {
                        look.failed.push((archive.object_key.clone(), error));
                    } else {
                        look.again = true;
                    }
                }
            }
        }
        Ok(look)
    }

    /// Whether something was changed.
    async fn erase_from(&self, erasing: Erasing<'_>, archive: &Archive) -> Result<bool> {
        let doing = Doing {
            run: 0,
            actor: erasing.actor,
        };
        match archive.state {
            State::Archived => {
                let fetched = self.fetch(archive).await?;
                if fetched.count_text("user_id", erasing.user).await? == 0 {
                    return Ok(false);
                }
                self.tell(Event::Began {
                    dataset: archive.dataset,
                    day: archive.day,
                    doing: "writing without a person",
                });
                let leaving = Leaving::Of(erasing.user.to_owned());
                let why = reason(erasing.id);
                self.replace(None, erasing.actor, archive, &fetched, leaving, &why)
                    .await?;
            }
            State::Writing | State::Proved | State::Detached => {
                let why = "it was copied before a person was erased";
                self.give_up(doing, archive.id, why).await?;
            }
            State::Expired | State::Replaced | State::Restored | State::Abandoned => {
                self.remove_object(erasing.actor, archive).await?;
            }
        }
        Ok(true)
    }

    async fn certify(&self, erasing: Erasing<'_>) -> Result<Certificate> {
        let archives = self.rewritten(erasing.id).await?;
        let archived_rows = archives
            .iter()
            .map(|archive| archive.dropped_rows)
            .sum::<i64>();
        let all = serde_json::to_vec(&archives)
            .map_err(|error| Error::internal("a certificate is no JSON").with_source(error))?;
        let archives_sha256 = hex(&Sha256::digest(&all));
        let now = self.clock.now();
        let listed: &[Rewritten] = archives.get(..LISTED).unwrap_or(&archives);
        let details: Value = json!({
            "archived_rows": archived_rows,
            "archives": archives.len(),
            "archives_sha256": archives_sha256,
            "listed": listed,
        });
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&erasing.run, &erasing.id, &details, &now, &erasing.actor];
        let row = db::query_one(&connection, &queries::FINISH_ERASURE, params)
            .await
            .map_err(refused)?;
        let audited_as: i64 = row.try_get("sequence")?;
        let row = db::query_one(&connection, &queries::ERASURE, &[&erasing.id]).await?;
        let finished_at: Option<DateTime<Utc>> = row.try_get("finished_at")?;
        Ok(Certificate {
            erasure: erasing.id,
            pseudonym: row.try_get("pseudonym")?,
            requested_at: row.try_get("requested_at")?,
            requested_by: row.try_get("requested_by")?,
            finished_at: finished_at.unwrap_or(now),
            feedback_rows: row.try_get("feedback_rows")?,
            history_rows: row.try_get("history_rows")?,
            archived_rows,
            archives,
            archives_sha256,
            audited_as,
        })
    }

    async fn rewritten(&self, erasure: Uuid) -> Result<Vec<Rewritten>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::REWRITTEN, &[&reason(erasure)]).await?;
        rows.iter()
            .map(|row| {
                let digest = |column| row.try_get::<_, &[u8]>(column).map(hex);
                Ok(Rewritten {
                    dataset: row.try_get("dataset")?,
                    day: row.try_get("day")?,
                    old: row.try_get("old_id")?,
                    new: row.try_get("new_id")?,
                    dropped_rows: row.try_get("dropped")?,
                    old_sha256: digest("old_sha256")?,
                    new_sha256: digest("new_sha256")?,
                    old_content_sha256: digest("old_content_sha256")?,
                    new_content_sha256: digest("new_content_sha256")?,
                })
            })
            .collect()
    }
}

/// Why archives are replaced for an erasure: how they are found again.
fn reason(erasure: Uuid) -> String {
    format!("erasure {erasure}")
}

/// Why there is no certificate although everything else is done.
fn unreadable(failed: Vec<(String, Error)>) -> Error {
    let named: Vec<String> = failed
        .iter()
        .take(5)
        .map(|(object, error)| format!("{object}: {}", error.message()))
        .collect();
    let error = Error::conflict(
        "erasure_unfinished",
        format!(
            "{} objects could not be read or removed, and may have rows of this person; everything else is erased. Mend them, and ask again: {}",
            failed.len(),
            named.join("; ")
        ),
    );
    match failed.into_iter().next() {
        Some((_, first)) => error.with_source(first),
        None => error,
    }
}

fn unfinished(last: Option<Error>) -> Error {
    let error = Error::conflict(
        "erasure_unfinished",
        "something came in between again and again; what was begun is recorded, and the next run of retention goes on: or ask again",
    );
    match last {
        Some(last) => error.with_source(last),
        None => error,
    }
}
