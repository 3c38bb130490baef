//! What rate limits and the limit of wrong tokens did.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
};
use utxoiq_store::limit::Figures;

use super::{counter, gauge};

/// What the rate limits did.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &Figures,
    failed_logins: u64,
) -> Result<(), fmt::Error> {
    let mut refused = encoder.encode_descriptor(
        "rate_limited",
        "Requests refused because their caller's limit was used up",
        None,
        MetricType::Counter,
    )?;
    for (tier, count) in &figures.refused {
        let labels = [("tier", tier.as_str())];
        ConstCounter::new(*count).encode(refused.encode_family(&labels)?)?;
    }
    for (name, help, count) in [
        (
            "rate_limit_from_memory",
            "Of these, those for which Redis need not be asked",
            figures.from_memory,
        ),
        (
            "rate_limit_without_redis",
            "Requests of limited callers decided by this process alone because Redis did not answer",
            figures.without_redis,
        ),
        (
            "failed_logins_refused",
            "Requests refused without a look-up because too many tokens from their address were wrong",
            failed_logins,
        ),
    ] {
        counter(encoder, name, help, count)?;
    }
    gauge(
        encoder,
        "rate_limit_callers",
        "Limited callers remembered by this process",
        i64::try_from(figures.callers).unwrap_or(i64::MAX),
    )
}
