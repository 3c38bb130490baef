//! The log: always there.

use futures_util::FutureExt as _;

use super::{AlertSink, Sent};
use crate::alert::{Kind, Notice, Severity};

pub struct Log;

impl AlertSink for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn deliver<'a>(&'a self, notice: &'a Notice) -> Sent<'a> {
        let alert = &notice.alert;
        // Events are made at compile time: one for each level.
        macro_rules! tell {
            ($tell:ident) => {
                tracing::$tell!(
                    notice = notice.kind.as_str(),
                    alert = alert.key,
                    alert_id = %alert.id,
                    severity = alert.severity.as_str(),
                    opened_at = %alert.opened_at,
                    detail = alert.detail,
                    runbook = alert.runbook,
                    labels = ?alert.labels,
                    "alert: {}",
                    alert.title
                )
            };
        }
        match (notice.kind, alert.severity) {
            (Kind::Resolved | Kind::Test, _) => tell!(info),
            (_, Severity::Warning) => tell!(warn),
            (_, Severity::Critical) => tell!(error),
        }
        async { Ok(()) }.boxed()
    }
}
