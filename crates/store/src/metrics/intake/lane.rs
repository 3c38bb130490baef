//! One lane: takes what waits, stores it, answers, until nothing waits.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio_postgres::error::SqlState;
use tracing::Instrument as _;

use super::{Inner, Load, Row, Stored};
use crate::{
    db::{Connection, TransactionId},
    error::{Error, Result},
    trace,
};

/// After a place was found taken, so many transactions look first: who replays, replays more than once.
const CAREFUL_FOR: u32 = 16;

/// Starts a lane that was counted already.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let lane = Lane {
        inner: Arc::clone(inner),
        is_counted: true,
        careful_for: 0,
    };
    tokio::spawn(lane.run());
}

struct Lane {
    inner: Arc<Inner>,
    is_counted: bool,
    careful_for: u32,
}

impl Drop for Lane {
    /// Interrupted by a panic, or by the end of its runtime: what waits, and no other lane will take, is told.
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let abandoned = {
            let mut queue = self.inner.queue();
            queue.lanes -= 1;
            match queue.lanes {
                0 => std::mem::take(&mut queue.loads),
                _ => VecDeque::new(),
            }
        };
        drop(abandoned);
    }
}

impl Lane {
    async fn run(mut self) {
        while self.goes_on() {
            // Those who were just answered are about to send more.
            tokio::task::yield_now().await;
            // The connection comes before the samples, so that what comes while waiting for it is stored, too.
            let connection = self.inner.pool.get().await;
            let loads = self.take();
            match connection {
                Ok(connection) => {
                    let samples = loads.iter().map(|load| load.rows.len()).sum();
                    let asked_by = loads.iter().map(|load| &load.asked_by);
                    let span = trace::batch("metrics.batch", samples, asked_by);
                    self.carry(&connection, loads).instrument(span).await;
                }
                Err(error) => refuse(loads, error),
            }
        }
    }

    /// Whether something waits; if not, this lane is no longer counted, so that the next samples open another.
    fn goes_on(&mut self) -> bool {
        let mut queue = self.inner.queue();
        if queue.loads.is_empty() {
            queue.lanes -= 1;
            self.is_counted = false;
        }
        self.is_counted
    }

    /// As many samples as one transaction takes; at least one load, and loads of one table of series only. A request that is
    /// remembered has a transaction of its own.
    fn take(&self) -> Vec<Load> {
        let mut queue = self.inner.queue();
        let mut taken: Vec<Load> = Vec::new();
        let mut samples = 0;
        // Who has gone away was told nothing: what they sent need not be stored.
        queue.loads.retain(|load| !load.answer.is_closed());
        while let Some(load) = queue.loads.front() {
            samples += load.rows.len();
            let fits = taken.first().is_none_or(|first| {
                samples <= self.inner.settings.max_samples_per_commit
                    && first.identity == load.identity
                    && first.request.is_none()
                    && load.request.is_none()
            });
            if !fits {
                break;
            }
            taken.extend(queue.loads.pop_front());
        }
        taken
    }

    async fn carry(&mut self, connection: &Connection, mut loads: Vec<Load>) {
        let Some(first) = loads.first() else {
            return;
        };
        if let Some(request) = first.request.clone() {
            let load = loads.swap_remove(0);
            self.carry_request(connection, load, &request).await;
            return;
        }
        let mut rows = gather(&mut loads);
        match self.write(connection, &mut rows, &loads).await {
            Ok(transaction) => answer(loads, rows, transaction),
            Err(error) if loads.len() > 1 && is_of_one(&error) => {
                give_back(&mut loads, rows);
                for load in loads {
                    // What went wrong may have cost the connection.
                    let other = if connection.is_closed() {
                        match self.inner.pool.get().await {
                            Ok(other) => Some(other),
                            Err(error) => {
                                refuse(vec![load], error);
                                continue;
                            }
                        }
                    } else {
                        None
                    };
                    let connection = other.as_ref().unwrap_or(connection);
                    let mut alone = vec![load];
                    let mut rows = gather(&mut alone);
                    match self.write(connection, &mut rows, &alone).await {
                        Ok(transaction) => answer(alone, rows, transaction),
                        Err(error) => refuse(alone, error),
                    }
                }
            }
            Err(error) => refuse(loads, error),
        }
    }

    /// A request with a key: stored, or recognised.
    async fn carry_request(
        &self,
        connection: &Connection,
        mut load: Load,
        request: &super::RequestKey,
    ) {
        let inner = &self.inner;
        let mut rows = std::mem::take(&mut load.rows);
        let written = inner
            .write_request(connection, &mut rows, &load, request)
            .await;
        inner.note(&rows);
        match written {
            Ok(transaction) => {
                inner.commits.fetch_add(1, Relaxed);
                let _ = load.answer.send(Ok(Stored { rows, transaction }));
            }
            Err(error) => refuse(vec![load], error),
        }
    }

    async fn write(
        &mut self,
        connection: &Connection,
        rows: &mut [Row],
        loads: &[Load],
    ) -> Result<Option<TransactionId>> {
        let Some(Load { identity, now, .. }) = loads.first() else {
            return Ok(None);
        };
        let inner = &self.inner;
        let is_careful = self.careful_for > 0;
        let written = inner
            .write(connection, rows, identity, *now, is_careful)
            .await;
        // Also where it is not known whether the commit took effect.
        inner.note(rows);
        let written = written?;
        self.careful_for = if written.met_taken {
            CAREFUL_FOR
        } else {
            self.careful_for.saturating_sub(1)
        };
        inner.commits.fetch_add(1, Relaxed);
        Ok(written.transaction)
    }
}

/// The rows of several loads, each knowing whose it is.
fn gather(loads: &mut [Load]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(loads.iter().map(|load| load.rows.len()).sum());
    for (number, load) in (0..).zip(loads) {
        for mut row in load.rows.drain(..) {
            row.load = number;
            rows.push(row);
        }
    }
    rows
}

fn give_back(loads: &mut [Load], rows: Vec<Row>) {
    for mut row in rows {
        row.state = super::State::New;
        if let Some(load) = usize::try_from(row.load)
            .ok()
            .and_then(|number| loads.get_mut(number))
        {
            load.rows.push(row);
        }
    }
}

/// Gives each its own rows.
fn answer(mut loads: Vec<Load>, rows: Vec<Row>, transaction: Option<TransactionId>) {
    for row in rows {
        if let Some(load) = usize::try_from(row.load)
            .ok()
            .and_then(|number| loads.get_mut(number))
        {
            load.rows.push(row);
        }
    }
    for load in loads {
        // A caller that has gone away is not told.
        let _ = load.answer.send(Ok(Stored {
            rows: load.rows,
            transaction,
        }));
    }
}

/// Tells everyone the same.
fn refuse(loads: Vec<Load>, error: Error) {
    let shared = Arc::new(error);
    for load in loads {
        let _ = load.answer.send(Err(Error::shared(Arc::clone(&shared))));
    }
}

/// Whether one of several requests may be the cause; it was rolled back for certain.
fn is_of_one(error: &Error) -> bool {
    let Some(state) = error.sql_state() else {
        return false;
    };
    let of_its_value = ["22", "23", "54", "P0"];
    of_its_value.contains(&state.code().get(..2).unwrap_or_default())
        || matches!(
            state,
            &(SqlState::LOCK_NOT_AVAILABLE
                | SqlState::QUERY_CANCELED
                | SqlState::T_R_DEADLOCK_DETECTED)
        )
}
