//! The persistence layer of utxoIQ: backfill jobs, user feedback and system metrics over PostgreSQL, Redis and
//! object storage.
//!
//! # What it guarantees
//!
//! * An acknowledged write is committed. What is not acknowledged may or may not be, and can be sent again.
//! * Time is passed in: nothing here reads the clock except [`clock::SystemClock`].
//! * The database is the contract: invariants are constraints and triggers, so they hold for a write by `psql` too.
//!
//! # Where things are
//!
//! [`db`] has the pool and the migrations, [`token`] the service tokens, [`schedule`] the durable schedule,
//! [`limit`] the callers' rate limits, [`backfill`], [`feedback`] and [`metrics`] the slices, [`cold`] what is in object storage, [`retention`] what goes there
//! and when, [`audit`] the log of it, [`backup`] what is made each night, [`alert`] how people hear of what is wrong, [`measure`] what a process measures about
//! itself, [`slo`] how the criteria stand. A module
//! uses only modules of an earlier row, from bottom to top: clock, error, config, measure, tls, trace → db → cache, cold, alert, schedule,
//! audit, token → limit and the slices → backup → retention → slo → store → worker; a test reads the `use` lines.

pub mod alert;
pub mod audit;
pub mod backfill;
pub mod backup;
pub mod cache;
pub mod clock;
pub mod cold;
pub mod config;
pub mod db;
pub mod error;
pub mod feedback;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod limit;
pub mod measure;
pub mod metrics;
pub mod retention;
pub mod schedule;
pub mod slo;
pub mod store;
pub mod tls;
pub mod token;
pub mod trace;
pub mod worker;

pub use error::{Error, Kind, Result};
pub use store::Store;
