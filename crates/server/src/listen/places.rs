//! The places of connections: so many are open at once.
//!
//! # What it guarantees
//!
//! * Never more than `server.max_connections` are open.
//! * Who comes when all places are taken gets the place of the connection that has been without a request the longest. Clients
//!   that open connections and say nothing, or say it slowly, take places from each other and not from those who ask: a new
//!   connection keeps its place for as long as it takes to open as many others.
//! * A connection on which a request is being answered keeps its place. An answer that is whole counts as given when it is handed
//!   to the connection; one that its client is slow to take is cut off only where every other place is busier.
//!
//! # Why no request is cut off
//!
//! Whether a connection has a request is one number, changed in one step. Who gives a place away sets it from the time since
//! when there was none to `GIVEN_AWAY`; the request that comes in that moment finds it so, and is not begun: its client sees
//! a closed connection, as with any that is kept alive and ended, and asks again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// A request is being answered.
const BUSY: u64 = u64::MAX;

/// The connection's place is somebody else's.
const GIVEN_AWAY: u64 = u64::MAX - 1;

/// How often it is looked for a place to give away where there was none.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a connection whose place was given away has to leave, before another one's is given away as well.
const LEAVING: Duration = Duration::from_secs(1);

/// How often it is told that places are given away.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// All places.
pub(super) struct Places {
    most: u32,
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
    began: Instant,
}

#[derive(Default)]
struct Taken {
    next_id: u64,
    seats: HashMap<u64, Arc<Seat>>,
    told_at: Option<Instant>,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    pub seat: Arc<Seat>,
    _permit: OwnedSemaphorePermit,
}

/// What a connection does, as far as its place is concerned.
pub(super) struct Seat {
    /// Since when it has had no request, in microseconds; or `BUSY`, or `GIVEN_AWAY`.
    idle_since: AtomicU64,
    leave: Notify,
    began: Instant,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        let most = u32::try_from(most.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Arc::new(Self {
            most,
            free: Arc::new(Semaphore::new(most as usize)),
            taken: Mutex::default(),
            began: Instant::now(),
        })
    }

    /// A place: a free one, or that of the connection that has been without a request the longest. Waits where every
    /// connection has a request.
    pub async fn take(self: &Arc<Self>) -> Place {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            let patience = if self.give_one_away() {
                LEAVING
            } else {
                LOOK_AGAIN
            };
            let freed = Arc::clone(&self.free).acquire_owned();
            // The semaphore is never closed.
            if let Ok(Ok(permit)) = tokio::time::timeout(patience, freed).await {
                break permit;
            }
        };
        let seat = Arc::new(Seat {
            idle_since: AtomicU64::new(micros(self.began)),
            leave: Notify::new(),
            began: self.began,
        });
        let mut taken = self.taken();
        let id = taken.next_id;
        taken.next_id += 1;
        taken.seats.insert(id, Arc::clone(&seat));
        Place {
            places: Arc::clone(self),
            id,
            seat,
            _permit: permit,
        }
    }

    /// Whether there was one to give away.
    fn give_one_away(&self) -> bool {
        let mut taken = self.taken();
        let idle = taken.seats.values().filter_map(|seat| {
            let since = seat.idle_since.load(SeqCst);
            (since < GIVEN_AWAY).then_some((since, seat))
        });
        let Some((since, seat)) = idle.min_by_key(|(since, _)| *since) else {
            return false;
        };
        let given = seat
            .idle_since
            .compare_exchange(since, GIVEN_AWAY, SeqCst, SeqCst)
            .is_ok();
        if given {
            seat.leave.notify_one();
        }
        if taken.told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            taken.told_at = Some(Instant::now());
            tracing::warn!(
                connections = self.most,
                "all of server.max_connections are open: those without a request give their places to new ones"
            );
        }
        given
    }

    /// Waits until every connection has ended.
    pub async fn all_left(&self) {
        // The semaphore is never closed.
        let _all = self.free.acquire_many(self.most).await;
    }

    /// How many connections are open.
    pub fn count(&self) -> usize {
        self.most as usize - self.free.available_permits()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().seats.remove(&self.id);
    }
}

impl Seat {
    /// A request has come. `None` where the place was given away before: it is not to be begun.
    pub fn work(self: &Arc<Self>) -> Option<Working> {
        let mut now = self.idle_since.load(SeqCst);
        while now != GIVEN_AWAY {
            // A request before this one may still be sending its answer: then this one goes on for both.
            match self.idle_since.compare_exchange(now, BUSY, SeqCst, SeqCst) {
                Ok(_) => return Some(Working(Arc::clone(self))),
                Err(changed) => now = changed,
            }
        }
        None
    }

    /// Waits until the place is given away.
    pub async fn given_away(&self) {
        self.leave.notified().await;
    }
}

/// A request is being answered until this is dropped.
pub(super) struct Working(Arc<Seat>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.idle_since.store(micros(self.0.began), SeqCst);
    }
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(GIVEN_AWAY - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_given_away(seat: &Seat) -> bool {
        let left = tokio::time::timeout(Duration::from_millis(20), seat.given_away());
        left.await.is_ok()
    }

    #[tokio::test]
    async fn who_comes_last_gets_the_place_of_whoever_was_idle_the_longest() {
        let places = Places::new(3);
        let (first, second) = (places.take().await, places.take().await);
        let third = places.take().await;
        // The first has had a request since; the second is having one.
        drop(first.seat.work().unwrap());
        let _working = second.seat.work().unwrap();
        let coming = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        third.seat.given_away().await;
        assert!(
            third.seat.work().is_none(),
            "a request began on a place that was given away"
        );
        drop(third);
        let _fourth = coming.await.unwrap();
        assert!(!is_given_away(&first.seat).await && !is_given_away(&second.seat).await);
        assert_eq!((places.count(), places.taken().seats.len()), (3, 3));
    }

    #[tokio::test]
    async fn where_all_are_at_work_who_comes_waits() {
        let places = Places::new(1);
        let only = places.take().await;
        let working = only.seat.work().unwrap();
        let mut coming = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        let waited = tokio::time::timeout(Duration::from_millis(200), &mut coming).await;
        assert!(waited.is_err() && !is_given_away(&only.seat).await);
        drop(working);
        only.seat.given_away().await;
        drop(only);
        coming.await.unwrap();
        places.all_left().await;
        assert!(places.taken().seats.is_empty());
    }
}
