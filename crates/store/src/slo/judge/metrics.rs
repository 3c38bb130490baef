//! Metrics (C3).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn storing(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn partitions(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn reading(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn aggregation(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn archiving(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
