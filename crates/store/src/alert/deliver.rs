//! Sending what is due.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Alert, AlertSink, Alerts, Condition, Delivered, Kind, Notice, Progress, Tested, What,
    memory::{self, Due, Incident, Receiver, Times},
    queries,
};
use crate::{
    clock,
    db::{self, Pool},
    error::Result,
    measure::Meter,
};

/// How many notices one claim gives for each receiver, as the statement has it.
const BATCH: usize = 16;

/// How many claims one call makes.
const ROUNDS: usize = 50;

/// What was sent, and how it went.
struct Outcome {
    due: Due,
    /// Why not.
    error: Option<String>,
}

/// Whether somebody hears of it for the first time by this receiver. The log is no receiver: nobody is woken by it.
fn is_first_receipt(due: &Due) -> bool {
    let progress = &due.progress;
    progress.what == What::Firing && progress.deliveries == 0 && progress.sink != "log"
}

impl Alerts {
    /// Sends what is due to every receiver. Where several processes do it at once, each notice is sent by one of them.
    ///
    /// Fails where the database does; what was sent until then is remembered, and not sent again.
    pub async fn deliver(&self, pool: &Pool, now: DateTime<Utc>) -> Result<Delivered> {
        self.adopt(pool).await?;
        let mut names = self.sinks();
        self.plan(pool, &names, now).await?;
        let mut delivered = Delivered::default();
        for _ in 0..ROUNDS {
            let due = self.claim(pool, &names, now).await?;
            if due.is_empty() {
                break;
            }
            let outcomes = self.send_all(due, now, Some(pool)).await;
            names = delivered.count(&outcomes?);
            if names.is_empty() {
                break;
            }
        }
        self.remember(pool).await?;
        Ok(delivered)
    }

    /// The same without the database, from what this process saw there last and from what is wrong now by one source. What it
    /// does is written into the database when that is back.
    ///
    /// Alerts that the database has are not resolved here, since not everything can be judged without it; and each process
    /// tells for itself.
    pub async fn deliver_without_database(
        &self,
        source: &str,
        conditions: &[Condition],
        now: DateTime<Utc>,
    ) -> Delivered {
        let conditions = memory::distinct(conditions);
        let receivers = self.receivers();
        let due = {
            let mut memory = self.memory();
            memory.observe(source, &conditions, now);
            memory.claim(&receivers, &conditions, self.times(now))
        };
        let mut delivered = Delivered::default();
        if let Ok(outcomes) = self.send_all(due, now, None).await {
            delivered.count(&outcomes);
        }
        delivered
    }

    /// Sends every receiver a notice that says that it is a trial, and tells what became of it.
    pub async fn test(&self, now: DateTime<Utc>) -> Vec<Tested> {
        let id = clock::uuid_at(now);
        let condition = Condition {
            key: "alert_test".to_owned(),
            severity: super::Severity::Warning,
            title: "this is a test: nothing is wrong".to_owned(),
            detail: "Somebody tries whether alerts of utxoIQ Store arrive here.".to_owned(),
            runbook: "docs/operations/alerts.md",
            labels: std::collections::BTreeMap::new(),
        };
        let notice = Notice {
            id: format!("{id}-test-1"),
            kind: Kind::Test,
            alert: condition.opened(id, "alert", now),
            at: now,
        };
        join_all(self.0.sinks.iter().map(async |sink| {
            let began = Instant::now();
            let error = self.send(sink.as_ref(), &notice).await;
            Tested {
                sink: sink.name().to_owned(),
                accepted: error.is_none(),
                error,
                took_milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            }
        }))
        .await
    }

    fn receivers(&self) -> Vec<Receiver> {
        let receivers = self.0.sinks.iter().map(|sink| Receiver {
            name: sink.name().to_owned(),
            is_told_always: sink.refresh().is_some(),
        });
        receivers.collect()
    }

    fn times(&self, now: DateTime<Utc>) -> Times {
        // Beyond what sending may take: a minute for clocks that differ.
        let lease = TimeDelta::from_std(self.0.timeout).unwrap_or_default() + TimeDelta::minutes(1);
        Times {
            now,
            claimed_until: now + lease,
            latest: memory::latest(now, self.0.repeat),
        }
    }

    async fn plan(&self, pool: &Pool, names: &[String], now: DateTime<Utc>) -> Result<()> {
        let connection = pool.get().await?;
        db::execute(&connection, &queries::PLAN_DELIVERIES, &[&names, &now]).await?;
        Ok(())
    }

    async fn claim(&self, pool: &Pool, names: &[String], now: DateTime<Utc>) -> Result<Vec<Due>> {
        let times = self.times(now);
        let always: Vec<String> = self
            .receivers()
            .into_iter()
            .filter(|receiver| receiver.is_told_always)
            .map(|receiver| receiver.name)
            .collect();
        let connection = pool.get().await?;
        let rows = db::query(
            &connection,
            &queries::CLAIM,
            &[&names, &now, &times.claimed_until, &always, &times.latest],
        )
        .await?;
        let due = rows.iter().map(|row| {
            Ok(Due {
                alert: Alert::from_row(row)?,
                progress: Progress::from_row(row)?,
            })
        });
        due.collect()
    }

    /// Sends all at once, and records each as it ends. Fails where one could not be recorded, after all were sent.
    async fn send_all(
        &self,
        due: Vec<Due>,
        now: DateTime<Utc>,
        pool: Option<&Pool>,
    ) -> Result<Vec<Outcome>> {
        let sent = join_all(due.into_iter().map(|due| self.send_one(due, now, pool))).await;
        sent.into_iter().collect()
    }

    async fn send_one(&self, due: Due, now: DateTime<Utc>, pool: Option<&Pool>) -> Result<Outcome> {
        let sinks = &self.0.sinks;
        let sink = sinks.iter().find(|sink| sink.name() == due.progress.sink);
        let notice = Notice {
            id: format!(
                "{}-{}-{}",
                due.alert.id,
                due.progress.what.as_str(),
                due.progress.deliveries + 1
            ),
            kind: due.progress.kind(),
            alert: due.alert.clone(),
            at: now,
        };
        let error = match sink {
            Some(sink) => self.send(sink.as_ref(), &notice).await,
            None => Some("it is not configured in this process".to_owned()),
        };
        let mut progress = due.progress.clone();
        if let Some(error) = &error {
            tracing::warn!(
                sink = progress.sink,
                alert = due.alert.key,
                attempt = progress.failures + 1,
                "an alert was not delivered and is tried again: {error}"
            );
            progress.failed(now, error);
        } else {
            let again = sink
                .and_then(|sink| sink.refresh())
                .unwrap_or(self.0.repeat);
            if let Some(pool) = pool.filter(|_| is_first_receipt(&due)) {
                let waited = (now - due.alert.opened_at).num_seconds().max(0);
                let meters = pool.meters();
                meters.record(Meter::AlertReceipt, waited.unsigned_abs());
            }
            progress.succeeded(now, (progress.what == What::Firing).then_some(again));
        }
        let recorded = match pool {
            None => Ok(()),
            Some(pool) => record(pool, &due, &progress).await,
        };
        let is_recorded = pool.is_some() && recorded.is_ok();
        self.memory().note(&due.alert, &progress, is_recorded);
        recorded.map(|()| Outcome { due, error })
    }

    /// Sends one notice; gives why it was not taken.
    async fn send(&self, sink: &dyn AlertSink, notice: &Notice) -> Option<String> {
        let sending = tokio::time::timeout(self.0.timeout, sink.deliver(notice));
        match sending.await {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.to_string()),
            Err(_) => Some(format!(
                "it did not answer within {} s",
                self.0.timeout.as_secs()
            )),
        }
    }

    /// Remembers what is open, for when the database is away.
    async fn remember(&self, pool: &Pool) -> Result<()> {
        let connection = pool.get().await?;
        let rows = db::query(&connection, &queries::OPEN_ONES, &[&self.sinks()]).await?;
        let mut open: Vec<Incident> = Vec::new();
        for row in &rows {
            let id: Uuid = row.get("id");
            if open.last().is_none_or(|last| last.alert.id != id) {
                open.push(Incident::known(Alert::from_row(row)?));
            }
            let has_progress = row.get::<_, Option<&str>>("sink").is_some();
            if let Some(last) = open.last_mut().filter(|_| has_progress) {
                last.progress.push(Progress::from_row(row)?);
            }
        }
        self.memory().replace(open);
        Ok(())
    }
}

impl Delivered {
    /// Counts, and gives the receivers that took all that they could be sent at once: they may have more to come.
    fn count(&mut self, outcomes: &[Outcome]) -> Vec<String> {
        let mut of_each = std::collections::BTreeMap::<&str, (usize, usize)>::new();
        for outcome in outcomes {
            let (sent, failed) = of_each.entry(&outcome.due.progress.sink).or_default();
            match outcome.error {
                None => *sent += 1,
                Some(_) => *failed += 1,
            }
        }
        self.sent += of_each.values().map(|(sent, _)| sent).sum::<usize>();
        self.failed += of_each.values().map(|(_, failed)| failed).sum::<usize>();
        let full = of_each.iter().filter(|(_, counts)| **counts == (BATCH, 0));
        full.map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// Records what became of a delivery that was claimed.
async fn record(pool: &Pool, due: &Due, progress: &Progress) -> Result<()> {
    let connection = pool.get().await?;
    let what = progress.what.as_str();
    if let Some(error) = &progress.last_error {
        let params: db::Params<'_> = &[
            &due.alert.id,
            &progress.sink,
            &what,
            &progress.attempts,
            &progress.next_at,
            error,
        ];
        db::execute(&connection, &queries::FAIL, params).await?;
    } else {
        let params: db::Params<'_> = &[
            &due.alert.id,
            &progress.sink,
            &what,
            &progress.attempts,
            &progress.delivered_at,
            &progress.next_at,
            &due.alert.escalated_at,
        ];
        db::execute(&connection, &queries::CONFIRM, params).await?;
    }
    Ok(())
}

impl Progress {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            sink: row.get("sink"),
            what: What::from_name(row.get("what"))?,
            attempts: row.get("attempts"),
            deliveries: row.get("deliveries"),
            failures: row.get("failures"),
            next_at: row.get("next_at"),
            delivered_at: row.get("delivered_at"),
            last_error: row.get("last_error"),
        })
    }
}
