//! The figures of end users' tokens and of their provider's keys.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use utxoiq_store::Store;

use super::{counter, gauge};
use crate::auth::oidc::Oidc;

/// Reads the figures at each scrape.
struct EndUsers {
    store: Store,
    oidc: Arc<Oidc>,
}

pub(super) fn figures(store: &Store, oidc: &Arc<Oidc>) -> Box<dyn Collector> {
    Box::new(EndUsers {
        store: store.clone(),
        oidc: Arc::clone(oidc),
    })
}

impl fmt::Debug for EndUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndUsers")
    }
}

impl Collector for EndUsers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.oidc.snapshot(self.store.now());
        let keys = figures.keys;
        gauge(
            &mut encoder,
            "oidc_keys",
            "Keys of the identity provider that are held",
            i64::try_from(keys.keys).unwrap_or(i64::MAX),
        )?;
        if let Some(age) = keys.age {
            let seconds = ConstGauge::new(age.as_seconds_f64().max(0.0));
            seconds.encode(encoder.encode_descriptor(
                "oidc_keys_age_seconds",
                "How long ago they were fetched",
                None,
                MetricType::Gauge,
            )?)?;
        }
        let mut family = encoder.encode_descriptor(
            "oidc_key_fetches",
            "Requests to the identity provider for its keys",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in [("ok", keys.fetched_total), ("failed", keys.failed_total)] {
            let labels = [("result", result)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        counter(
            &mut encoder,
            "oidc_tokens_accepted",
            "End users' tokens that were verified and found good",
            figures.accepted_total,
        )?;
        let mut family = encoder.encode_descriptor(
            "oidc_tokens_refused",
            "End users' tokens that were refused, by reason",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in figures.refused_total {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
