//! The cache (C4).

use super::not_yet;
use crate::slo::{Source, Verdict, evidence::Gathered};

pub fn redis_first(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn hit_rate(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn invalidation(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn ttls(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}

pub fn without_redis(_: &Gathered) -> Verdict {
    not_yet(Source::Histogram)
}
