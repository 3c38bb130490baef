//! The only place where the time of day is read.
//!
//! Operations take `now` as an argument, so that a policy can be asked about any moment and a test never sleeps to
//! move time. A process reads its [`Clock`] once for each request or tick and passes the value on. Clippy refuses
//! `Utc::now` elsewhere (`clippy.toml`).

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rand::RngExt as _;

/// A source of the present time in UTC.
pub trait Clock: Send + Sync + 'static {
    /// The present time, cut to microseconds: what PostgreSQL's `timestamptz` keeps, so that a value read back
    /// equals the value written.
    fn now(&self) -> DateTime<Utc>;
}

/// Cuts a time to the microseconds that PostgreSQL stores.
pub fn to_micros(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::microseconds(1))
        .unwrap_or(time)
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that may
    fn now(&self) -> DateTime<Utc> {
        to_micros(Utc::now())
    }
}

/// A clock that stands where it was put: for `--as-of` and for tests.
#[derive(Debug, Clone)]
pub struct FixedClock(Arc<Mutex<DateTime<Utc>>>);

impl FixedClock {
    /// A clock standing at `time`.
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(to_micros(time))))
    }

    /// Puts the clock to another time; all clones see it.
    pub fn set(&self, time: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to_micros(time);
    }

    /// Moves the clock on by `delta`; all clones see it.
    pub fn advance(&self, delta: TimeDelta) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time += delta;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time-ordered UUID (version 7) of a given moment: new rows land at the end of their index. Its random bits come from
/// the thread's generator: asking the system for them takes longer than everything else about a request's id.
pub fn uuid_at(time: DateTime<Utc>) -> uuid::Uuid {
    let millis = u64::try_from(time.timestamp_millis()).unwrap_or_default();
    let random: [u8; 10] = rand::rng().random();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
