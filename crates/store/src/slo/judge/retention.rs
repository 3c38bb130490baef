//! Retention (C7).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn jobs(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn feedback(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn metrics(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn daily(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn audited(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
