//! What the calls about alerts take and give.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::alert;
use uuid::Uuid;

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct ListQuery {
    /// `open`: what is wrong now; `all`: what was, too.
    #[param(inline, default = "open")]
    pub state: Option<ShownAlerts>,
    /// How many at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    pub limit: Option<i64>,
    /// How many to leave out.
    #[param(default = 0, minimum = 0)]
    pub offset: Option<i64>,
}

/// Whether only those that are wrong now.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)] // the document is made of it; Input reads it
pub enum ShownAlerts {
    /// What is wrong now.
    Open,
    /// What was, too.
    All,
}

/// Which alert.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct AlertPath {
    /// Its id.
    pub alert_id: Uuid,
}

/// Who takes an alert says.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AcknowledgeAlert)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct Acknowledgement {
    /// What they do about it.
    #[schema(min_length = 1, max_length = 1000)]
    pub note: Option<String>,
}

/// A page of alerts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alerts)]
pub struct Alerts {
    /// The newest first.
    pub alerts: Vec<Listed>,
    /// Whether there are more.
    pub has_more: bool,
}

/// An alert with what its receivers were told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedAlert)]
pub struct Listed {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// What each receiver was told, and what is still to be sent.
    pub deliveries: Vec<Delivery>,
}

/// Something that is or was wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
pub struct Alert {
    /// Its id.
    pub id: Uuid,
    /// Its name, which is the same each time that this is wrong.
    pub key: String,
    /// Who watches it.
    pub source: String,
    /// `warning` or `critical`: the gravest it was.
    pub severity: &'static str,
    /// What is wrong, in a line.
    pub title: String,
    /// What is known of it.
    pub detail: String,
    /// What to do.
    pub runbook: String,
    /// What collectors group by.
    pub labels: BTreeMap<String, String>,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// When it was seen last.
    pub seen_at: DateTime<Utc>,
    /// When it became critical, where it began as a warning.
    pub escalated_at: Option<DateTime<Utc>>,
    /// Since when it is over; null while it is not.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Since when somebody has taken it.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who has.
    pub acknowledged_by: Option<String>,
    /// What they said.
    pub note: Option<String>,
}

/// What a receiver was told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertDelivery)]
pub struct Delivery {
    /// The receiver: `log`, `webhook`, `slack`, `alertmanager`, or `email` and an address.
    pub sink: String,
    /// `firing` or `resolved`.
    pub what: &'static str,
    /// How often sending began.
    pub attempts: i64,
    /// How often it was taken.
    pub deliveries: i64,
    /// How often in a row it was not since.
    pub failures: i64,
    /// When it is to be sent next, unless somebody takes the alert; null when nothing is left to send.
    pub next_at: Option<DateTime<Utc>>,
    /// When it was taken last.
    pub delivered_at: Option<DateTime<Utc>>,
    /// Why it was not taken last, while it is not.
    pub last_error: Option<String>,
}

impl From<alert::Alert> for Alert {
    fn from(alert: alert::Alert) -> Self {
        Self {
            id: alert.id,
            key: alert.key,
            source: alert.source,
            severity: alert.severity.as_str(),
            title: alert.title,
            detail: alert.detail,
            runbook: alert.runbook,
            labels: alert.labels,
            opened_at: alert.opened_at,
            seen_at: alert.seen_at,
            escalated_at: alert.escalated_at,
            resolved_at: alert.resolved_at,
            acknowledged_at: alert.acknowledged_at,
            acknowledged_by: alert.acknowledged_by,
            note: alert.note,
        }
    }
}

impl From<alert::Progress> for Delivery {
    fn from(progress: alert::Progress) -> Self {
        Self {
            sink: progress.sink,
            what: progress.what.as_str(),
            attempts: progress.attempts,
            deliveries: progress.deliveries,
            failures: progress.failures,
            next_at: progress.next_at,
            delivered_at: progress.delivered_at,
            last_error: progress.last_error,
        }
    }
}

impl From<alert::Page> for Alerts {
    fn from(page: alert::Page) -> Self {
        let alerts = page.alerts.into_iter().map(|listed| Listed {
            alert: listed.alert.into(),
            deliveries: listed.deliveries.into_iter().map(Into::into).collect(),
        });
        Self {
            alerts: alerts.collect(),
            has_more: page.has_more,
        }
    }
}
