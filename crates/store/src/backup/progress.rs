//! How far a backup or a restore is, for whoever watches it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tracing::Span;

use crate::trace;

/// What is being done, and how much of it was. All of it may be read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    step: Mutex<&'static str>,
    /// The step's span, which ends with the step.
    span: Mutex<Option<Span>>,
    done: AtomicU64,
    total: AtomicU64,
    compared: AtomicU64,
}

impl Progress {
    /// Begins a step of so many pieces of work; 0 where nobody knows.
    pub(super) fn begin(&self, step: &'static str, total: u64) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
        *self.span.lock().unwrap_or_else(PoisonError::into_inner) = Some(trace::step(step));
        self.done.store(0, Relaxed);
        self.total.store(total, Relaxed);
        tracing::debug!(step, total, "a backup or restore goes on");
    }

    /// So much more was done.
    pub(super) fn add(&self, done: u64) {
        self.done.fetch_add(done, Relaxed);
    }

    /// One more table has its fingerprint.
    pub(super) fn compared(&self) {
        self.compared.fetch_add(1, Relaxed);
    }

    /// So much was done in all.
    pub(super) fn reach(&self, done: u64) {
        self.done.store(done, Relaxed);
    }

    /// What is being done.
    pub fn step(&self) -> &'static str {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of this step was done: bytes, tables or objects.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// How much it has; 0 where nobody knows.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// How many tables have their fingerprints.
    pub fn tables(&self) -> u64 {
        self.compared.load(Relaxed)
    }
}
