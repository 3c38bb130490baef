//! The clock of the history: put to a moment, it goes on from there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::clock::{Clock, to_micros};

/// A clock that was put to a moment and runs, so that what takes time has a length; clones are the same clock.
#[derive(Clone)]
pub struct HistoryClock(Arc<Mutex<(DateTime<Utc>, Instant)>>);

impl HistoryClock {
    /// Put to this moment.
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new((time, Instant::now()))))
    }

    /// Puts it to another moment.
    pub fn set(&self, time: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (time, Instant::now());
    }
}

impl Clock for HistoryClock {
    fn now(&self) -> DateTime<Utc> {
        let (time, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = TimeDelta::from_std(since.elapsed()).unwrap_or_default();
        to_micros(time + gone)
    }
}
