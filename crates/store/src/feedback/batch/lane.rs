//! One lane: takes what waits, writes it, answers, until nothing waits.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::{Row, error::SqlState};
use tracing::Instrument as _;

use super::{
    Change, HELD_UP, Inner,
    queue::{Key, Waiting},
};
use crate::{
    db::{self, Connection},
    error::{Error, Result},
    feedback::{Written, queries},
    trace,
};

/// So many writes of a batch may wait for a lock in vain before the others are given up, too.
const WAITS_IN_VAIN: usize = 2;

/// How long a batch waits for a row's lock, in milliseconds: longer than any write of ours takes.
const PATIENCE_TOGETHER: &str = "500";

/// How long each of its writes does, when the batch has waited in vain.
const PATIENCE_ALONE: &str = "100";

/// How long is waited so for the rows of a batch together.
const LONG: Duration = Duration::from_secs(2);

/// Starts a lane that was counted already.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let lane = Lane {
        inner: Arc::clone(inner),
        taken: Vec::new(),
        is_counted: true,
        is_held_up: false,
    };
    tokio::spawn(lane.run());
}

/// A lane. However it ends, what it has taken is given back, and what waits is not left alone.
struct Lane {
    inner: Arc<Inner>,
    taken: Vec<Key>,
    is_counted: bool,
    is_held_up: bool,
}

impl Lane {
    async fn run(mut self) {
        while self.goes_on() {
            // Those who were just answered are about to send their next write: they come first.
            tokio::task::yield_now().await;
            // The connection comes before the batch, so that what comes while waiting for it is written, too.
            let connection = self.inner.pool.get().await;
            let batch = self.take();
            match connection {
                _ if batch.is_empty() => {}
                Ok(connection) => {
                    let asked_by = batch.iter().map(|waiting| &waiting.asked_by);
                    let span = trace::batch("feedback.batch", batch.len(), asked_by);
                    self.carry(&connection, batch).instrument(span).await;
                }
                Err(error) => refuse(batch, error),
            }
            self.give_back();
        }
    }

    /// Whether something waits; if not, this lane is no longer counted, so that the next write opens another.
    fn goes_on(&mut self) -> bool {
        let mut state = self.inner.state();
        if !state.queue.is_ready() {
            state.lanes -= 1;
            self.is_counted = false;
        }
        self.is_counted
    }

    fn take(&mut self) -> Vec<Waiting> {
        let mut state = self.inner.state();
        let (keys, batch) = state.queue.take(self.inner.max_writes).into_iter().unzip();
        self.taken = keys;
        batch
    }

    fn give_back(&mut self) {
        let mut state = self.inner.state();
        state.held_up -= usize::from(std::mem::take(&mut self.is_held_up));
        for key in self.taken.drain(..) {
            state.queue.give_back(key);
        }
    }

    /// Writes a batch; when that takes long, others need not wait for it.
    async fn carry(&mut self, connection: &Connection, batch: Vec<Waiting>) {
        let inner = Arc::clone(&self.inner);
        let mut writing = pin!(inner.write(connection, batch));
        if timeout(HELD_UP, &mut writing).await.is_ok() {
            return;
        }
        self.is_held_up = true;
        let opens = {
            let mut state = self.inner.state();
            state.held_up += 1;
            state.opens_a_lane()
        };
        if opens {
            spawn(&self.inner);
        }
        writing.await;
    }
}

impl Inner {
    async fn write(self: &Arc<Self>, connection: &Connection, mut batch: Vec<Waiting>) {
        // The order in which the statement writes and answers.
        batch.sort_unstable_by(|a, b| a.change.key().cmp(&b.change.key()));
        let patience = (batch.len() > 1).then_some(PATIENCE_TOGETHER);
        match self.commit(connection, &batch, patience).await {
            Ok(rows) => answer(batch, rows),
            Err(error) if batch.len() > 1 && may_be_of_one(&error) => {
                self.write_singly(connection, batch).await;
            }
            Err(error) => refuse(batch, error),
        }
    }

    /// Each by itself, so that only those fail that are the cause: first those that need not wait, then those whose row is
    /// locked. Where nothing can be written for long, the whole table is locked: then all are told at once.
    async fn write_singly(self: &Arc<Self>, connection: &Connection, batch: Vec<Waiting>) {
        let began = Instant::now();
        let mut has_written = false;
        let mut locked = Vec::new();
        let mut batch = batch.into_iter();
        while let Some(waiting) = batch.next() {
            let one = std::slice::from_ref(&waiting);
            match self.commit(connection, one, Some(PATIENCE_ALONE)).await {
                Ok(rows) => {
                    has_written = true;
                    answer(vec![waiting], rows);
                }
                Err(error) if has_waited_in_vain(&error) => {
                    locked.push(waiting);
                    if began.elapsed() > LONG {
                        locked.extend(batch.by_ref());
                        if !has_written {
                            return refuse(locked, error);
                        }
                    }
                }
                Err(error) => refuse(vec![waiting], error),
            }
        }
        self.write_locked(connection, locked).await;
    }

    /// Waits for locks that are held for long. When nobody lets go of them, each would wait in vain: then the others are
    /// told at once.
    async fn write_locked(self: &Arc<Self>, connection: &Connection, locked: Vec<Waiting>) {
        let mut waited_in_vain = 0;
        let mut rest = locked.into_iter();
        while let Some(waiting) = rest.next() {
            let one = std::slice::from_ref(&waiting);
            match self.commit(connection, one, None).await {
                Ok(rows) => answer(vec![waiting], rows),
                Err(error) => {
                    waited_in_vain += usize::from(has_waited_in_vain(&error));
                    let mut refused = vec![waiting];
                    if waited_in_vain >= WAITS_IN_VAIN {
                        refused.extend(rest.by_ref());
                    }
                    refuse(refused, error);
                }
            }
        }
    }

    /// Writes a batch in one statement, which is one transaction: what is returned was committed.
    async fn commit(
        self: &Arc<Self>,
        connection: &Connection,
        batch: &[Waiting],
        patience: Option<&'static str>,
    ) -> Result<Vec<Row>> {
        let arrays = Arrays {
            patience,
            ..Arrays::of(batch)
        };
        let written = match arrays.write(connection).await {
            Err(error) if was_rolled_back_for_others(&error) => arrays.write(connection).await,
            written => written,
        };
        if written.is_ok() {
            self.commits.fetch_add(1, Relaxed);
            let writes = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            self.writes.fetch_add(writes, Relaxed);
            self.fold_soon();
        }
        written
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.give_back();
        if !self.is_counted {
            return;
        }
        // Interrupted by a panic, or by the end of its runtime. What still waits gets another lane, or the news.
        let mut state = self.inner.state();
        state.lanes -= 1;
        if !state.queue.is_ready() || state.lanes > 0 {
            return;
        }
        if Handle::try_current().is_ok() && std::thread::panicking() {
            state.lanes += 1;
            drop(state);
            spawn(&self.inner);
        } else {
            state.queue.abandon();
        }
    }
}

/// A batch as the statement takes it.
struct Arrays<'a> {
    insight_ids: Vec<&'a str>,
    user_ids: Vec<&'a str>,
    ratings: Vec<Option<i16>>,
    comments: Vec<Option<&'a str>>,
    flag_types: Vec<Option<&'static str>>,
    flag_reasons: Vec<Option<&'a str>>,
    ats: Vec<DateTime<Utc>>,
    /// How long a row's lock is waited for, in milliseconds; `None`: as long as the session does.
    patience: Option<&'static str>,
}

impl<'a> Arrays<'a> {
    fn of(batch: &'a [Waiting]) -> Self {
        let changes = || batch.iter().map(|waiting| &waiting.change);
        Self {
            insight_ids: changes().map(|change| &*change.insight_id).collect(),
            user_ids: changes().map(|change| &*change.user_id).collect(),
            ratings: changes().map(|change| change.rating).collect(),
            comments: changes().map(|change| change.comment.as_deref()).collect(),
            flag_types: changes()
                .map(|change| change.flag.as_ref().map(|(kind, _)| kind.as_str()))
                .collect(),
            flag_reasons: changes()
                .map(|change| {
                    change
                        .flag
                        .as_ref()
                        .and_then(|(_, reason)| reason.as_deref())
                })
                .collect(),
            ats: changes().map(|change| change.at).collect(),
            patience: None,
        }
    }

    async fn write(&self, connection: &Connection) -> Result<Vec<Row>> {
        db::query(
            connection,
            &queries::WRITE,
            &[
                &self.insight_ids,
                &self.user_ids,
                &self.ratings,
                &self.comments,
                &self.flag_types,
                &self.flag_reasons,
                &self.ats,
                &self.patience,
            ],
        )
        .await
    }
}

impl Change {
    /// Orders by bytes, as the statement does.
    fn key(&self) -> (&str, &str) {
        (&self.insight_id, &self.user_id)
    }
}

/// Gives each its own row. Both are in the order of keys; a row that a trigger of someone's has swallowed is missed by
/// its own writer only.
fn answer(batch: Vec<Waiting>, rows: Vec<Row>) {
    let mut rows = rows.into_iter().peekable();
    for waiting in batch {
        let row = rows.next_if(|row| key_of(row).is_ok_and(|key| key == waiting.change.key()));
        let written = row.map_or_else(
            || {
                Err(Error::internal(
                    "feedback was sent and none came back: does a trigger swallow rows?",
                ))
            },
            |row| Written::from_row(&row),
        );
        // A caller that has gone away is not told.
        let _ = waiting.answer.send(written);
    }
}

fn key_of(row: &Row) -> Result<(&str, &str), tokio_postgres::Error> {
    Ok((row.try_get("insight_id")?, row.try_get("user_id")?))
}

/// Tells everyone of a batch the same.
fn refuse(batch: Vec<Waiting>, error: Error) {
    let shared = Arc::new(error);
    for waiting in batch {
        let error = Error::new(shared.kind(), shared.code(), shared.message().to_owned())
            .with_source(Arc::clone(&shared));
        let _ = waiting.answer.send(Err(error));
    }
}

/// Rolled back because of what others did at the same time: sent again at once, it may succeed.
fn was_rolled_back_for_others(error: &Error) -> bool {
    matches!(
        error.sql_state(),
        Some(&(SqlState::T_R_DEADLOCK_DETECTED | SqlState::T_R_SERIALIZATION_FAILURE))
    )
}

/// Whether one write of several may be the cause. It was rolled back for certain: the database said so.
fn may_be_of_one(error: &Error) -> bool {
    let Some(state) = error.sql_state() else {
        return false;
    };
    let of_its_value = ["22", "23", "54", "P0"];
    of_its_value.contains(&state.code().get(..2).unwrap_or_default())
        || has_waited_in_vain(error)
        || was_rolled_back_for_others(error)
}

/// Whether it was cancelled because it took too long, most likely waiting for a lock.
fn has_waited_in_vain(error: &Error) -> bool {
    matches!(
        error.sql_state(),
        Some(&(SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED))
    )
}
