//! The calls, one file a slice.

pub mod alerts;
pub mod archives;
pub mod audit;
pub mod backfill;
pub mod backups;
pub mod feedback;
pub mod metrics;
pub mod pool;
pub mod retention;
pub mod schedule;
pub mod slo;
pub mod whoami;

use axum::{
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use crate::{health, openapi, routes::Routes};

/// All calls of the service.
pub fn routes() -> Vec<Routes> {
    vec![
        alerts::routes(),
        audit::routes(),
        backfill::routes(),
        backups::routes(),
        feedback::routes(),
        metrics::routes(),
        pool::routes(),
        retention::routes(),
        archives::routes(),
        schedule::routes(),
        slo::routes(),
        whoami::routes(),
        health::routes(),
        crate::metrics::routes(),
        openapi::routes(),
    ]
}

/// An answer whose JSON is there already.
pub(crate) fn ready_json(json: Bytes) -> Response {
    let json_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json_type)], json).into_response()
}
