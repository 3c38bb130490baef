//! Spans: what a request, a task or a shared transaction did, and how long each part of it took.
//!
//! # What it guarantees
//!
//! * Nothing is made where nobody listens. A span is one check of a flag that `tracing` keeps for each place in the code, and
//!   that is off unless the composition root has installed a layer for [`TARGET`].
//! * A span holds names, numbers and codes that are written in this program: a statement's name, never its text or its values; no
//!   user, no token, no comment, no key of a cached value.
//! * What runs by itself every few moments (the outbox, leases, pings) makes none: parts are told of only within a whole
//!   ([`request`](root), task, batch), so that a trace begins where something was asked for.
//!
//! Transactions that many requests share ([`crate::feedback`], [`crate::metrics`]) are traces of their own, linked with each
//! request that they are for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::FutureExt as _;
use tracing::{Instrument as _, Span, field::Empty};

use crate::error::Result;

/// The target of every span that is exported, and of nothing else. No module's name begins like it: filters look at beginnings.
pub const TARGET: &str = "utxoiq_store_spans";

/// Whether anybody listens.
pub fn is_on() -> bool {
    tracing::span_enabled!(target: TARGET, tracing::Level::INFO)
}

/// The span that is being worked in here, for what goes on elsewhere; none where nobody listens.
pub fn current() -> Span {
    if is_on() {
        Span::current()
    } else {
        Span::none()
    }
}

/// The beginning of a trace.
pub fn root(name: &str, about: &str) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "root",
        otel.name = name,
        otel.kind = "internal",
        otel.status_code = Empty,
        error.type = Empty,
        utxoiq.about = about,
    )
}

/// The beginning of the trace of work that is shared by those who wait for it; none where none of them is traced.
pub fn batch<'a>(
    name: &str,
    size: usize,
    asked_by: impl Iterator<Item = &'a Span> + Clone,
) -> Span {
    if !asked_by.clone().any(|one| !one.is_none()) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "batch",
        otel.name = name,
        otel.kind = "internal",
        otel.status_code = Empty,
        error.type = Empty,
        db.operation.batch.size = size,
    );
    for one in asked_by {
        span.follows_from(one);
    }
    span
}

/// A part of what is being done here, where that is traced.
pub fn step(name: &str) -> Span {
    if !is_within() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        "step",
        otel.name = name,
        otel.kind = "internal",
        otel.status_code = Empty,
        error.type = Empty,
    )
}

/// A statement of the database, by its name.
pub fn statement(name: &'static str) -> Span {
    if !is_within() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        "statement",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        error.type = Empty,
        db.system.name = "postgresql",
        db.query.summary = name,
    )
}

/// A round trip to Redis.
pub fn redis(command: &'static str) -> Span {
    if !is_within() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        "redis",
        otel.name = command,
        otel.kind = "client",
        otel.status_code = Empty,
        error.type = Empty,
        db.system.name = "redis",
        db.operation.name = command,
    )
}

/// A request to an object store.
pub fn object(operation: &'static str) -> Span {
    if !is_within() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        "object",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = Empty,
        error.type = Empty,
        rpc.method = operation,
    )
}

fn is_within() -> bool {
    is_on() && !Span::current().is_none()
}

/// Works within a span, and marks it where the work fails: with the error's code, which is one of a closed set.
pub fn within<T>(
    span: Span,
    work: impl Future<Output = Result<T>>,
) -> impl Future<Output = Result<T>> {
    // Combinators: an async function would hold the work twice.
    let ours = span.clone();
    work.inspect(move |done| {
        if let Err(error) = done {
            failed(&ours, error.code());
        }
    })
    .instrument(span)
}

/// Marks a span as failed, with a code.
pub fn failed(span: &Span, code: &str) {
    if !span.is_none() {
        span.record("otel.status_code", "error");
        span.record("error.type", code);
    }
}

/// What became of the spans of this process; whoever exports them counts.
#[derive(Debug, Default)]
pub struct Exported {
    sent: AtomicU64,
    queue_full: AtomicU64,
    not_taken: AtomicU64,
}

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The collector took it.
    Sent,
    /// As many as may were waiting already.
    QueueFull,
    /// The collector was away, too slow, or refused it.
    NotTaken,
}

/// The fates of spans in this process.
pub static EXPORTED: Exported = Exported {
    sent: AtomicU64::new(0),
    queue_full: AtomicU64::new(0),
    not_taken: AtomicU64::new(0),
};

impl Exported {
    /// The ways in which a span is lost, by their names.
    pub const LOSSES: [(Fate, &'static str); 2] = [
        (Fate::QueueFull, "queue_full"),
        (Fate::NotTaken, "not_taken"),
    ];

    /// Counts spans.
    pub fn add(&self, fate: Fate, spans: u64) {
        self.counter(fate).fetch_add(spans, Relaxed);
    }

    /// How many there were.
    pub fn count(&self, fate: Fate) -> u64 {
        self.counter(fate).load(Relaxed)
    }

    const fn counter(&self, fate: Fate) -> &AtomicU64 {
        match fate {
            Fate::Sent => &self.sent,
            Fate::QueueFull => &self.queue_full,
            Fate::NotTaken => &self.not_taken,
        }
    }
}
