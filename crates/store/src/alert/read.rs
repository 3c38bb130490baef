//! Listing, acknowledging and removing alerts.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Alert, Alerts, Progress, queries};
use crate::{
    db::{self, Pool},
    error::{Error, Result},
};

/// The longest note of who acknowledges, in characters.
pub const MAX_NOTE: usize = 1_000;

/// How long resolved alerts are kept.
const KEPT: TimeDelta = TimeDelta::days(400);

/// Which alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// What is wrong now.
    Open,
    /// What was, too.
    All,
}

/// An alert, and what its receivers were told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// What each receiver was told, and what is still to be sent.
    pub deliveries: Vec<Progress>,
}

/// Some alerts, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The alerts.
    pub alerts: Vec<Listed>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Alerts {
    /// Alerts, the newest first.
    pub async fn list(&self, pool: &Pool, filter: Filter, limit: i64, offset: i64) -> Result<Page> {
        let statement = match filter {
            Filter::Open => &queries::LIST_OPEN,
            Filter::All => &queries::LIST_ALL,
        };
        let connection = pool.get().await?;
        let rows = db::query(&connection, statement, &[&limit.saturating_add(1), &offset]).await?;
        let limit = usize::try_from(limit).unwrap_or_default();
        let alerts = rows.iter().take(limit).map(Alert::from_row);
        let alerts = alerts.collect::<Result<Vec<Alert>>>()?;
        let ids: Vec<Uuid> = alerts.iter().map(|alert| alert.id).collect();
        let mut deliveries: HashMap<Uuid, Vec<Progress>> = HashMap::new();
        for row in &db::query(&connection, &queries::DELIVERIES_OF, &[&ids]).await? {
            let of = deliveries.entry(row.get("alert_id")).or_default();
            of.push(Progress::from_row(row)?);
        }
        let listed = alerts.into_iter().map(|alert| Listed {
            deliveries: deliveries.remove(&alert.id).unwrap_or_default(),
            alert,
        });
        Ok(Page {
            has_more: rows.len() > limit,
            alerts: listed.collect(),
        })
    }

    /// Takes an alert, by its id or its key: it is not told again while it is open. Who has taken it first has it; taking it
    /// again changes nothing.
    ///
    /// Fails with `no_such_alert`, and with `alert_resolved` where it is over.
    pub async fn acknowledge(
        &self,
        pool: &Pool,
        which: &str,
        by: &str,
        note: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Alert> {
        let connection = pool.get().await?;
        let found = match which.parse::<Uuid>() {
            Ok(id) => db::query_opt(&connection, &queries::GET, &[&id]).await?,
            Err(_) => db::query_opt(&connection, &queries::NEWEST_OF_KEY, &[&which]).await?,
        };
        let found = found.ok_or_else(no_such)?;
        let id: Uuid = found.get("id");
        let by: String = by.chars().take(200).collect();
        let params: db::Params<'_> = &[&id, &now, &by, &note];
        let taken = db::query_opt(&connection, &queries::ACKNOWLEDGE, params).await?;
        let row = match taken {
            Some(row) => Some(row),
            // It was taken, or has ended, perhaps this moment.
            None => db::query_opt(&connection, &queries::GET, &[&id]).await?,
        };
        let alert = Alert::from_row(&row.ok_or_else(no_such)?)?;
        if alert.resolved_at.is_some() {
            return Err(Error::conflict(
                "alert_resolved",
                "the alert is over: there is nothing to acknowledge",
            ));
        }
        self.memory().update(&alert);
        Ok(alert)
    }

    /// Removes what was resolved 400 days ago; gives how many.
    pub async fn prune(&self, pool: &Pool, now: DateTime<Utc>) -> Result<u64> {
        let connection = pool.get().await?;
        db::execute(&connection, &queries::PRUNE, &[&(now - KEPT)]).await
    }
}

fn no_such() -> Error {
    Error::not_found(
        "no_such_alert",
        "there is no such alert: GET /api/v1/monitoring/alerts lists them",
    )
}
