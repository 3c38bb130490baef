//! Backups (C8).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn daily(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn kept(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn proved(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn region(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn alerted(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
