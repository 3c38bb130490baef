//! Backfill jobs (C1).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn starting(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn progress(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn completing(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn failing(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn reading(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
