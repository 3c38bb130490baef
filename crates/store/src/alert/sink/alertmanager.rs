//! Prometheus's Alertmanager, whose clients keep an alert alive by sending it again, and which tells people itself.
//!
//! Here silence is the end: an alert whose time is up is reported as resolved. So it is sent every five minutes while it is
//! open, acknowledged or not (silencing is Alertmanager's own business), with an end that is beyond two repeats: should this
//! process be gone for a while, nothing is reported as resolved that is not.
//!
//! Alertmanager tells alerts apart by their labels. Ours keep those that they were opened with; only the severity may rise, and
//! then the warning is ended in the same request.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::FutureExt as _;
use serde_json::{Map, Value, json};

use super::{AlertSink, Failure, Post, Sent};
use crate::{
    alert::{Kind, Notice, Severity},
    config::Secret,
    error::Result,
};

/// How often an open alert is sent.
const REFRESH: TimeDelta = TimeDelta::minutes(5);

pub struct Alertmanager {
    post: Post,
    /// How long after it was sent an alert ends by itself.
    life: TimeDelta,
}

impl Alertmanager {
    pub fn new(url: &Secret, repeat: TimeDelta) -> Result<Self> {
        Ok(Self {
            post: Post::new(url)?.below(&["api", "v2", "alerts"], &[]),
            life: (repeat * 2).max(TimeDelta::hours(1)) + REFRESH * 2,
        })
    }

    fn payload(&self, notice: &Notice) -> Value {
        let alert = &notice.alert;
        let ends_at = match notice.kind {
            // It is seen, and gone.
            Kind::Test => notice.at + TimeDelta::minutes(5),
            Kind::Firing | Kind::Repeated | Kind::Resolved => {
                alert.resolved_at.unwrap_or(notice.at + self.life)
            }
        };
        let critical_since = alert.escalated_at.unwrap_or(alert.opened_at);
        let mut alerts = vec![one(notice, alert.severity, critical_since, ends_at)];
        if let Some(escalated_at) = alert.escalated_at {
            alerts.push(one(
                notice,
                Severity::Warning,
                alert.opened_at,
                escalated_at,
            ));
        }
        Value::Array(alerts)
    }
}

impl AlertSink for Alertmanager {
    fn name(&self) -> &'static str {
        "alertmanager"
    }

    fn refresh(&self) -> Option<TimeDelta> {
        Some(REFRESH)
    }

    fn deliver<'a>(&'a self, notice: &'a Notice) -> Sent<'a> {
        async move {
            let body = serde_json::to_vec(&self.payload(notice));
            let body = body.map_err(|error| Failure::caused(&error))?;
            self.post.send("application/json", body, None).await
        }
        .boxed()
    }
}

fn one(
    notice: &Notice,
    severity: Severity,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
) -> Value {
    let alert = &notice.alert;
    let mut labels: BTreeMap<String, &str> = alert
        .labels
        .iter()
        .map(|(name, value)| (label_name(name), value.as_str()))
        .collect();
    labels.insert("alertname".to_owned(), &alert.key);
    labels.insert("severity".to_owned(), severity.as_str());
    labels.insert("source".to_owned(), &alert.source);
    labels.insert("service".to_owned(), "utxoiq-store");
    let mut annotations = Map::new();
    for (name, value) in [
        ("summary", Some(&alert.title)),
        ("description", Some(&alert.detail)),
        ("runbook", Some(&alert.runbook)),
        ("acknowledged_by", alert.acknowledged_by.as_ref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            annotations.insert(name.to_owned(), json!(value));
        }
    }
    // Nothing may end before it began.
    let ends_at = ends_at.max(starts_at);
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": time(starts_at),
        "endsAt": time(ends_at),
    })
}

/// A name as Prometheus's data model has them.
fn label_name(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}
