//! The integration tests of the store: one binary, against a real PostgreSQL (`./dev test` starts one).
//!
//! Each test has a database of its own: see [`support::TestDb`].

#![allow(
    clippy::print_stderr,
    reason = "what a test measured belongs into its output"
)]
#![allow(
    clippy::float_cmp,
    reason = "percentages are rounded to two places and compared as they are"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod alert;
mod audit;
mod backfill;
mod backup;
mod cache;
mod cold;
mod feedback;
mod feedback_read;
mod layers;
mod limit;
mod metrics;
mod migrate;
mod pool;
mod replica;
mod retention;
mod roles;
mod schedule;
mod slo;
mod statements;
mod support;
mod token;
mod transport;
