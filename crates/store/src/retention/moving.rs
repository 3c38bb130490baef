//! Moving a day: out to cold storage, proved there, and then out of the database.

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::{
    Archive, Event, Moved, Retention, State,
    locks::{is_locked, while_locked},
    queries, refused,
};
use crate::{
    audit::hex,
    clock::uuid_at,
    cold::{AuditHead, Dataset, Manifest, ObjectKey, SeriesNames, Written},
    db::{self, Copied, OpenTransaction},
    error::{Error, Result},
};

/// How often what changed meanwhile is copied anew before it is left to the next run.
pub(super) const ROUNDS: u32 = 3;

/// Jobs carry their errors and checkpoints: fewer of them make an archive.
const JOBS_AN_ARCHIVE: i64 = 100;

/// Who does something in which run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doing<'a> {
    pub run: i64,
    pub actor: &'a str,
}

/// What is to be copied out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection<'a> {
    pub dataset: Dataset,
    pub day: NaiveDate,
    pub after_key: Option<&'a str>,
    pub last_key: Option<&'a str>,
    pub verified_at: Option<DateTime<Utc>>,
}

impl Retention<'_> {
    /// Archives the rows of a day, batch by batch.
    pub(super) async fn move_rows(
        &self,
        doing: Doing<'_>,
        dataset: Dataset,
        day: NaiveDate,
        mut each: impl FnMut(Moved),
    ) -> Result<()> {
        let mut after_key: Option<String> = None;
        let mut round = 1;
        while let Some(last_key) = self.next(dataset, day, after_key.as_deref()).await? {
            let selection = Selection {
                dataset,
                day,
                after_key: after_key.as_deref(),
                last_key: Some(&last_key),
                verified_at: None,
            };
            let archive = self.copy_out(doing, selection, None).await?;
            match self.finish_rows(doing, &archive).await {
                Ok(done) => {
                    each(done);
                    after_key = Some(last_key);
                    round = 1;
                }
                Err(error) if error.code() == "archive_changed" && round < ROUNDS => round += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes the rows of a proved archive.
    pub(super) async fn finish_rows(&self, doing: Doing<'_>, archive: &Archive) -> Result<Moved> {
        self.tell(Event::Began {
            dataset: archive.dataset,
            day: archive.day,
            doing: "deleting",
        });
        if let Err(error) = self.with_locks(doing, &queries::DELETE_ROWS, archive).await {
            self.give_up_if_refused(doing, archive.id, &error).await?;
            return Err(self.given_up_by_others(archive.id, error).await?);
        }
        Ok(moved(archive))
    }

    /// The last key of the next batch; none when the day is done.
    async fn next(
        &self,
        dataset: Dataset,
        day: NaiveDate,
        after_key: Option<&str>,
    ) -> Result<Option<String>> {
        let most = self.config.retention.batch_rows;
        let (statement, most) = match dataset {
            Dataset::BackfillJobs => (&queries::NEXT_OF_JOBS, most.min(JOBS_AN_ARCHIVE)),
            Dataset::Feedback => (&queries::NEXT_OF_FEEDBACK, most),
            Dataset::FeedbackHistory => (&queries::NEXT_OF_HISTORY, most),
            Dataset::Metrics => return Err(Error::internal("samples go by the day")),
        };
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&day, &after_key, &most];
        let row = db::query_one(&connection, statement, params).await?;
        Ok(row.try_get("last_key")?)
    }

    /// Writes an archive's object, reads it back, compares, and records it.
    pub(super) async fn copy_out(
        &self,
        doing: Doing<'_>,
        selection: Selection<'_>,
        names: Option<&SeriesNames>,
    ) -> Result<Archive> {
        let began_at = self.clock.now();
        let id = uuid_at(began_at);
        let key = self.begin(doing, selection, id, began_at).await?;
        self.tell(Event::Began {
            dataset: selection.dataset,
            day: selection.day,
            doing: "writing",
        });
        let proved = async {
            let written = self.write(selection, key, names).await?;
            self.tell(Event::Began {
                dataset: selection.dataset,
                day: selection.day,
                doing: "reading back",
            });
            self.cold()?.prove(key, &written).await?;
            self.record(Some(doing.run), doing.actor, id, key, &written)
                .await
        };
        match proved.await {
            Ok(()) => self.archive(id).await,
            Err(error) if error.code() == "archive_state" => {
                Err(self.given_up_by_others(id, error).await?)
            }
            Err(error) => {
                self.give_up(doing, id, error.message()).await?;
                Err(error)
            }
        }
    }

    /// What it means that an archive is not as it was left: an erasure gives up what may have the person's rows, and it is
    /// copied anew. What was written of it may have come after the erasure had looked: it goes at once.
    async fn given_up_by_others(&self, id: Uuid, error: Error) -> Result<Error> {
        if error.code() != "archive_state" {
            return Ok(error);
        }
        let archive = self.archive(id).await?;
        if archive.state == State::Abandoned {
            self.cold()?.remove(archive.key()?).await?;
            let message = "it was given up, as a person in it was erased; it is copied again";
            return Ok(Error::conflict("archive_changed", message).with_source(error));
        }
        Ok(error)
    }

    async fn begin(
        &self,
        doing: Doing<'_>,
        selection: Selection<'_>,
        id: Uuid,
        at: DateTime<Utc>,
    ) -> Result<ObjectKey> {
        let key = self.new_key(selection.dataset, selection.day, id).await?;
        let instead_of: Option<Uuid> = None;
        let params: db::Params<'_> = &[
            &Some(doing.run),
            &id,
            &selection.dataset.name(),
            &selection.day,
            &key.to_string(),
            &selection.after_key,
            &selection.last_key,
            &selection.verified_at,
            &instead_of,
            &at,
        ];
        let connection = self.pool.get().await?;
        db::query_one(&connection, &queries::BEGIN, params)
            .await
            .map_err(refused)?;
        Ok(key)
    }

    /// A key for a new archive of a day.
    pub(super) async fn new_key(
        &self,
        dataset: Dataset,
        day: NaiveDate,
        id: Uuid,
    ) -> Result<ObjectKey> {
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&dataset.name(), &day];
        let row = db::query_one(&connection, &queries::NEXT_PART, params).await?;
        let part: i32 = row.try_get("part")?;
        let part = u16::try_from(part).map_err(|_| {
            Error::conflict(
                "too_many_archives",
                format!(
                    "{} of {day} has 65536 archives; raise retention.batch_rows",
                    dataset.name()
                ),
            )
        })?;
        Ok(ObjectKey::archive(dataset, day, part, id))
    }

    async fn write(
        &self,
        selection: Selection<'_>,
        key: ObjectKey,
        names: Option<&SeriesNames>,
    ) -> Result<Written> {
        let Selection {
            dataset,
            day,
            after_key,
            last_key,
            ..
        } = selection;
        let last_key = last_key.unwrap_or_default();
        let keys = after_key
            .into_iter()
            .chain((dataset != Dataset::Metrics).then_some(last_key));
        if !keys.into_iter().all(queries::is_plain) {
            return Err(Error::internal("a key that is none"));
        }
        let open = OpenTransaction::begin(self.pool, queries::BEGIN_COPY).await?;
        let sql = queries::copy_rows(dataset, day, after_key, last_key);
        let written = async {
            let rows = Copied::begin(open.connection()?, &sql).await?;
            self.cold()?.write(key, rows, names).await
        };
        // Where writing failed the connection is in the middle of a COPY: it leaves the pool with the transaction.
        let written = written.await?;
        open.end(Ok(written)).await
    }

    /// Records a proved object, in the database and beside it.
    pub(super) async fn record(
        &self,
        run: Option<i64>,
        actor: &str,
        id: Uuid,
        key: ObjectKey,
        written: &Written,
    ) -> Result<()> {
        let at = self.clock.now();
        let connection = self.pool.get().await?;
        let state = db::query_one(&connection, &queries::MANIFEST_STATE, &[]).await?;
        let (sequence, hash): (i64, Vec<u8>) = (state.try_get("sequence")?, state.try_get("hash")?);
        let version: i64 = state.try_get("schema_version")?;
        let head = AuditHead {
            sequence,
            hash: hex(&hash),
        };
        let manifest = Manifest::new(key, written, version, Some(head), at);
        self.cold()?.put_manifest(key, &manifest).await?;
        let text = serde_json::to_string(&manifest)
            .map_err(|error| Error::internal("a manifest is no JSON").with_source(error))?;
        let (rows, bytes) = (count(written.rows)?, count(written.bytes)?);
        let (sha256, content) = (unhex(&written.sha256)?, unhex(&written.content)?);
        let params: db::Params<'_> = &[
            &run, &id, &rows, &bytes, &sha256, &content, &text, &at, &actor,
        ];
        db::query_one(&connection, &queries::PROVE, params)
            .await
            .map_err(refused)?;
        Ok(())
    }

    /// One archive.
    pub async fn archive(&self, id: Uuid) -> Result<Archive> {
        let connection = self.pool.get().await?;
        let row = db::query_opt(&connection, &queries::ARCHIVE, &[&id]).await?;
        let row = row.ok_or_else(|| {
            Error::not_found(
                "no_such_archive",
                "there is no such archive; look at `archive list`",
            )
        })?;
        Archive::from_row(&row)
    }

    /// Reads an archive's object back once more, all of it, and compares it with its manifest.
    ///
    /// A record that cannot be read proves nothing: as where the object differs.
    pub(super) async fn prove_again(&self, archive: &Archive) -> Result<()> {
        let manifest = archive.manifest().map_err(|error| {
            Error::unavailable(
                "cold_object_differs",
                format!("what was recorded of {} cannot be read", archive.object_key),
            )
            .with_source(error)
        })?;
        let written = manifest.written();
        self.cold()?.prove(archive.key()?, &written).await?;
        Ok(())
    }

    /// Gives an archive up; its rows stay in the database.
    pub(super) async fn give_up(&self, doing: Doing<'_>, id: Uuid, why: &str) -> Result<()> {
        let at = self.clock.now();
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&id, &why, &at, &doing.actor];
        db::query_one(&connection, &queries::ABANDON, params)
            .await
            .map_err(refused)?;
        Ok(())
    }

    pub(super) async fn give_up_if_refused(
        &self,
        doing: Doing<'_>,
        id: Uuid,
        error: &Error,
    ) -> Result<()> {
        if is_refused(error) {
            self.give_up(doing, id, error.message()).await?;
        }
        Ok(())
    }

    /// Runs a step that takes locks for a moment, again and again while somebody else holds them.
    pub(super) async fn with_locks(
        &self,
        doing: Doing<'_>,
        statement: &db::Statement,
        archive: &Archive,
    ) -> Result<()> {
        let done = while_locked(self.config.retention.lock_attempts, || async {
            let at = self.clock.now();
            let connection = self.pool.get().await?;
            let params: db::Params<'_> = &[&doing.run, &archive.id, &at, &doing.actor];
            db::query_one(&connection, statement, params).await?;
            Ok(())
        });
        done.await.map_err(|error| {
            if !is_locked(&error) {
                return error;
            }
            Error::conflict(
                "day_is_in_use",
                format!(
                    "somebody reads or holds rows of {} for long (a backup?); the next run goes on with it",
                    archive.day
                ),
            )
            .with_source(error)
        })
    }
}

/// Whether the database refused because of what it found, which waiting does not change.
pub(super) fn is_refused(error: &Error) -> bool {
    matches!(error.code(), "archive_changed" | "legal_hold")
}

pub(super) fn moved(archive: &Archive) -> Moved {
    Moved {
        dataset: archive.dataset.name(),
        day: archive.day,
        rows: archive.rows.unwrap_or_default(),
        bytes: archive.bytes.unwrap_or_default(),
        object: archive.object_key.clone(),
    }
}

fn count(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|_| Error::internal("a count beyond 64 bits"))
}

/// The bytes of a digest in hexadecimal.
fn unhex(text: &str) -> Result<Vec<u8>> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or_default(), 16);
    (0..text.len())
        .step_by(2)
        .map(|at| digit(at).map_err(|error| Error::internal("no digest").with_source(error)))
        .collect()
}
