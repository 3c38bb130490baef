//! The calls, one file a slice.

pub mod backfill;
pub mod feedback;
pub mod pool;
pub mod schedule;

use crate::{health, metrics, openapi, routes::Routes};

/// All calls of the service.
pub fn routes() -> Vec<Routes> {
    vec![
        backfill::routes(),
        feedback::routes(),
        pool::routes(),
        schedule::routes(),
        health::routes(),
        metrics::routes(),
        openapi::routes(),
    ]
}
