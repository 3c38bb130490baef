//! The binary as people use it: real processes, a real PostgreSQL, and `kill -9`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod backfill_run;
mod kills;
mod support;
