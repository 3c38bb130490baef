//! The service, from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on panics"
)]

#[path = "../../../store/tests/it/support.rs"]
#[allow(
    dead_code,
    reason = "shared with the store's tests, which use all of it"
)]
mod database;

mod access;
mod audit_http;
mod backfill_http;
mod bad_input;
mod contract;
mod dashboard;
mod document;
mod feedback_http;
mod figures;
mod health;
mod input;
mod limits;
mod live;
mod metrics_cold;
mod metrics_read;
mod metrics_write;
mod oidc;
mod problems;
mod rate_limits;
mod shutdown;
mod support;
mod tokens;
mod transport;
