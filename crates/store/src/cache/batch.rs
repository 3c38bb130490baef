//! Loading: concurrent misses on different keys share one query.
//!
//! A key that is asked for while no query runs is loaded at once; those that come meanwhile wait and are loaded together.
//! A key's query begins after it was asked for, never before: its snapshot shows what was committed by then.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::figures::{Counters, count};
use crate::{
    db::Snapshot,
    error::{Error, Result},
    trace,
};

/// How many queries of one kind run at once.
const LANES: usize = 2;

/// How many keys may wait: reads outlive the requests that began them, so that those who leave do not stop them.
const MAX_WAITING: usize = 10_000;

/// Values in the order of their keys, all read in one snapshot.
#[derive(Debug)]
pub struct Loaded<V> {
    /// One for each key.
    pub values: Vec<V>,
    /// What they were read in.
    pub snapshot: Snapshot,
}

/// Reads the values of some keys with one statement.
pub type Load<K, V> = Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Loaded<V>>> + Send + Sync>;

/// What one caller gets.
type Answer<V> = Result<(V, Snapshot), Arc<Error>>;

/// The waiting keys of one kind.
pub(super) struct Batcher<K, V> {
    load: Load<K, V>,
    max_keys: usize,
    counters: Arc<Counters>,
    waiting: Arc<Mutex<Waiting<K, V>>>,
}

/// A key, whom to tell, and what is being done where it was asked for.
type Asked<K, V> = (K, (oneshot::Sender<Answer<V>>, Span));

struct Waiting<K, V> {
    keys: VecDeque<Asked<K, V>>,
    lanes: usize,
}

impl<K: Clone + Send + Sync + 'static, V: Send + Sync + 'static> Batcher<K, V> {
    pub fn new(load: Load<K, V>, max_keys: usize, counters: Arc<Counters>) -> Self {
        Self {
            load,
            max_keys,
            counters,
            waiting: Arc::new(Mutex::new(Waiting {
                keys: VecDeque::new(),
                lanes: 0,
            })),
        }
    }

    /// Loads one key, with whatever else is waiting.
    pub async fn load(&self, key: K) -> Answer<V> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.keys.len() >= MAX_WAITING {
                return Err(Arc::new(Error::unavailable(
                    "overloaded",
                    "too many reads are waiting for the database; send the request again later",
                )));
            }
            waiting.keys.push_back((key, (sender, trace::current())));
            if waiting.lanes < LANES {
                waiting.lanes += 1;
                tokio::spawn(lane(
                    Open {
                        waiting: Arc::clone(&self.waiting),
                        is_closed: false,
                    },
                    Arc::clone(&self.load),
                    self.max_keys,
                    Arc::clone(&self.counters),
                ));
            }
        }
        receiver.await.unwrap_or_else(|_| {
            // The lane panicked; its successor is opened by the next key.
            Err(Arc::new(Error::internal("loading a value was given up")))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lane's place among the lanes.
struct Open<K, V> {
    waiting: Arc<Mutex<Waiting<K, V>>>,
    is_closed: bool,
}

impl<K, V> Open<K, V> {
    /// The next keys. Without any the lane is closed, under the lock under which keys are added: a key that comes later
    /// opens another.
    fn take(&mut self, max: usize) -> Option<Vec<Asked<K, V>>> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.keys.len().min(max);
        if count > 0 {
            return Some(waiting.keys.drain(..count).collect());
        }
        waiting.lanes -= 1;
        self.is_closed = true;
        None
    }
}

impl<K, V> Drop for Open<K, V> {
    fn drop(&mut self) {
        if !self.is_closed {
            // It panicked: who waits is told, by the end of its channel, rather than left.
            let mut waiting = lock(&self.waiting);
            waiting.lanes -= 1;
            waiting.keys.clear();
        }
    }
}

async fn lane<K: Clone, V>(
    mut open: Open<K, V>,
    load: Load<K, V>,
    max_keys: usize,
    counters: Arc<Counters>,
) {
    while let Some(batch) = open.take(max_keys) {
        let (keys, told): (Vec<K>, Vec<_>) = batch.into_iter().unzip();
        let span = trace::batch("cache.load", keys.len(), told.iter().map(|(_, span)| span));
        let senders = told
            .into_iter()
            .map(|(sender, _)| sender)
            .collect::<Vec<_>>();
        count(&counters.loads);
        let expected = keys.len();
        match load(keys).instrument(span).await {
            Ok(loaded) if loaded.values.len() == expected => {
                for (sender, value) in senders.into_iter().zip(loaded.values) {
                    // Whoever does not wait any more does not need it.
                    let _ = sender.send(Ok((value, loaded.snapshot.clone())));
                }
            }
            Ok(_) => give_up(
                senders,
                Error::internal("a load gave another number of values"),
            ),
            Err(error) => give_up(senders, error),
        }
    }
}

fn give_up<V>(senders: Vec<oneshot::Sender<Answer<V>>>, error: Error) {
    let error = Arc::new(error);
    for sender in senders {
        let _ = sender.send(Err(Arc::clone(&error)));
    }
}
