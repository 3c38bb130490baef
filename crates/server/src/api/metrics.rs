//! Calls of system metrics: what comes in (C3.1), in each form that its senders speak, and how it is read.
//!
//! * [`write`]: the contract's calls, all or nothing, one sample or a batch.
//! * [`otlp`], [`remote_write`] and [`import`]: OpenTelemetry, Prometheus and files. What is right of them is stored, and the
//!   rest is told with reasons and counts.
//! * [`read`]: samples, series and services.
//!
//! What comes in becomes a [`Batch`](utxoiq_store::metrics::Batch) of samples, and an answer that says "stored" means that they are
//! committed. Whatever a client sends, memory is bounded: a body by `server.max_body_bytes`, also when decompressed, and
//! what is made of it by [`gather`].

mod body;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod gather;
mod import;
mod otlp;
mod protobuf;
mod read;
mod remote_write;
pub mod wire;
pub mod wire_figures;
pub mod wire_read;
mod write;

use utxoiq_store::token::Scope;

use crate::routes::{Call, Routes};

/// The calls.
pub fn routes() -> Routes {
    let routes = Routes::new(
        "metrics",
        "System metrics as a time series: a sample that was answered for is committed, and sent again adds nothing (C3).",
    );
    read::add(import::add(remote_write::add(otlp::add(write::add(
        routes,
    )))))
}

/// A call that records samples.
fn records(path: &'static str, summary: &'static str) -> Call {
    Call::post(path, Scope::MetricsWrite, summary).refuses(
        429,
        "queue_full",
        "too many samples wait to be stored; see `Retry-After`",
    )
}
