//! What people were told: alerts that are over, one that somebody has taken, and one that nobody has.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use utxoiq_store::alert::{Condition, Severity};

use super::{Demo, Written};

/// Whose alerts these are.
const SOURCE: &str = "demo";

const METRICS: &str = "docs/operations/metrics.md";
const BACKUPS: &str = "docs/operations/backups.md";

/// Writes them.
pub async fn lay(demo: &Demo, written: &mut Written) -> anyhow::Result<()> {
    let step = demo.progress.begin("alerts", 4);
    let (alerts, pool) = (demo.store.alerts(), demo.store.pool());
    let before = |hours: i64| demo.as_of - TimeDelta::hours(hours);
    let over = [
        (
            condition(
                "demo:ingestor_behind",
                Severity::Critical,
                "block-ingestor is 14 blocks behind the tip",
                "queue_depth of block-ingestor is above 900 since 40 minutes; bitcoind answers in 8 s",
                METRICS,
            ),
            24 * 19,
        ),
        (
            condition(
                "demo:copy_slow",
                Severity::Warning,
                "the second copy of a backup took 52 minutes",
                "as long as the night before: the bucket's region answers slowly",
                BACKUPS,
            ),
            24 * 6,
        ),
    ];
    for (condition, hours) in over {
        alerts
            .observe(pool, SOURCE, &[condition], before(hours))
            .await?;
        alerts.observe(pool, SOURCE, &[], before(hours - 3)).await?;
        step.done("");
    }
    let taken = condition(
        "demo:insight_engine_slow",
        Severity::Warning,
        "insight-engine answers 1.8 times as slowly as last week",
        "request_latency_p95 is 160 ms, and was 88 ms at this time on the last seven days",
        METRICS,
    );
    let open = condition(
        "demo:web_api_slow",
        Severity::Critical,
        "web-api answers 2.3 times as slowly as last week",
        "request_latency_p95 is 330 ms and error_rate 4 percent; it began with the deployment of this morning",
        METRICS,
    );
    alerts
        .observe(pool, SOURCE, std::slice::from_ref(&taken), before(6))
        .await?;
    step.done("");
    alerts
        .observe(pool, SOURCE, &[taken, open], before(5))
        .await?;
    let note = "looking at it: the new feature flag is being rolled back";
    alerts
        .acknowledge(
            pool,
            "demo:insight_engine_slow",
            "mara",
            Some(note),
            before(4),
        )
        .await?;
    written.alerts = 4;
    step.finish("2 that are over, 1 that is taken, 1 that is open");
    Ok(())
}

fn condition(
    key: &str,
    severity: Severity,
    title: &str,
    detail: &str,
    runbook: &'static str,
) -> Condition {
    Condition {
        key: key.to_owned(),
        severity,
        title: title.to_owned(),
        detail: detail.to_owned(),
        runbook,
        labels: BTreeMap::from([("component".to_owned(), "demo".to_owned())]),
    }
}
