//! The tools of the tests, tested: each promise that other suites build on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: a failure is a panic, and a skipped one says so"
)]

mod postgres;
mod process;
mod proxy;
mod redis;
