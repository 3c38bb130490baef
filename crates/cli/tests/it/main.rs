//! The binary as people use it: real processes, a real PostgreSQL, and `kill -9`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]
#![allow(
    clippy::print_stdout,
    reason = "what a test survived belongs into its output"
)]

mod access;
mod alert;
mod archive;
mod audit;
mod backfill_run;
mod backup;
mod backup_kills;
mod book;
mod browser;
mod coherence;
mod demo;
mod deploy;
mod docs;
mod doctor;
mod examples;
mod feedback;
mod furnished;
mod hostile;
mod json;
mod kills;
mod log;
mod metrics;
mod metrics_kills;
mod retention_kills;
mod rolling;
mod schemathesis;
mod slo;
mod support;
mod traces;
mod transport;
