//! Feedback (C2).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn rating(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn comment(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn flag(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn statistics(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn search(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
