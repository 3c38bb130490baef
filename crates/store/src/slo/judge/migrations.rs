//! Migrations (C5).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn table(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn new_ones(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn pending(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn rollback(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn once(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
