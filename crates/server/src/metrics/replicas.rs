//! How read replicas fare: which of them are read from, how far they are behind, and who answered instead.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use utxoiq_store::db::replica::ReplicaSnapshot;

/// A gauge: its name, what it says, and where it comes from.
type Figure = (&'static str, &'static str, fn(&ReplicaSnapshot) -> i64);

/// What each replica did. Their names come from the settings, so that there are few.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    replicas: &[ReplicaSnapshot],
) -> Result<(), fmt::Error> {
    let figures: [Figure; 2] = [
        (
            "replica_in_use",
            "Whether reads are sent to a replica of database.read_urls: 1 or 0",
            |replica| i64::from(replica.in_use),
        ),
        (
            "replica_behind_bytes",
            "How many bytes of the log a replica lacked when it was last asked",
            |replica| replica.behind_bytes,
        ),
    ];
    for (name, help, figure) in figures {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for replica in replicas {
            let labels = [("replica", replica.name.as_str())];
            ConstGauge::new(figure(replica)).encode(family.encode_family(&labels)?)?;
        }
    }
    let mut reads = encoder.encode_descriptor(
        "replica_reads",
        "Reads by what became of them: served by the replica, or by the primary because it was late or failed",
        None,
        MetricType::Counter,
    )?;
    for replica in replicas {
        for (outcome, count) in [
            ("served", replica.served_total),
            ("late", replica.late_total),
            ("failed", replica.failed_total),
        ] {
            let labels = [("replica", replica.name.as_str()), ("outcome", outcome)];
            ConstCounter::new(count).encode(reads.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
