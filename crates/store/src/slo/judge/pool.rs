//! The connection pool (C6).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn size(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn reuse(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn idle(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn retries(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn log(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
