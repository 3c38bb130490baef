//! Reading what criteria are judged by.
//!
//! Each part is read by itself, within a time of its own: one that cannot be read is a sentence, and the criteria that need it say
//! so. What only this process can say (its settings, where its stores lie) is beside it.

mod parts;

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Months, NaiveDate, TimeDelta, Utc};
use tokio_postgres::error::SqlState;

#[cfg(test)]
pub use parts::Slot;
pub use parts::{Archives, AuditTail, Catalogue, Failure, Migration, Overdue, Rows, Task, Untold};

use super::{State, facts, probes::Probe, queries};
use crate::{
    audit::{Audit, Filter},
    backup::{self, Backups, watch::Place},
    cache::{Cache, CacheState, Life},
    config::Config,
    db::{self, Connection, OpenTransaction, Pool},
    error::Result,
};

/// How long all statements of one part may take.
const WITHIN: Duration = Duration::from_secs(3);

/// How long a connection may be waited for; then nothing more is asked.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// How many entries at the audit log's end are verified at each report.
const AUDIT_TAIL: i64 = 500;

/// How far back failed backups are looked at.
const FAILURES_BACK: TimeDelta = TimeDelta::days(31);

/// After so long an alert that nobody has taken is late (C8.5).
pub const TOLD_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// By how much later than its night something may leave before it is overdue: the night's run may be under way, or be tried again.
const A_NIGHT_LATE: TimeDelta = TimeDelta::hours(26);

/// What was read, or why it could not be.
pub type Part<T> = Result<T, String>;

/// What the criteria ask of the schedule.
pub const TASKS: [&str; 7] = [
    "run_retention",
    "make_backup",
    "prove_backup",
    "check_criteria",
    "check_feedback_statistics",
    "roll_up_metrics",
    "make_metric_partitions",
];

/// What was read, at one moment.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The moment.
    pub now: DateTime<Utc>,
    /// How far back what was measured is looked at.
    pub window: TimeDelta,
    /// The settings of the process that judges.
    pub config: Config,
    /// What processes measured.
    pub facts: Part<facts::Read>,
    /// The newest probes, the newest first.
    pub probes: Part<Vec<Probe>>,
    /// The tasks that are known, by name.
    pub tasks: Part<HashMap<String, Task>>,
    /// The slices' newest rows.
    pub rows: Part<Rows>,
    /// What keeps the guarantees.
    pub catalogue: Part<Catalogue>,
    /// What was applied; `None` where there is no table of it.
    pub migrations: Part<Option<Vec<Migration>>>,
    /// What retention owes, by kind.
    pub overdue: Part<HashMap<String, Overdue>>,
    /// What was archived, by dataset.
    pub archives: Part<HashMap<String, Archives>>,
    /// The end of the audit log.
    pub audit: Part<AuditTail>,
    /// The history of the backups.
    pub backups: Part<backup::History>,
    /// The newest backups, also those that were removed, the newest first.
    pub kept: Part<Vec<backup::Backup>>,
    /// Where they lie.
    pub places: Vec<Place>,
    /// Backups that failed.
    pub failures: Part<Vec<Failure>>,
    /// What nobody was told.
    pub untold: Part<Untold>,
    /// The receivers of alerts, without the log.
    pub receivers: Vec<String>,
    /// Whether Redis is used.
    pub redis: CacheState,
    /// How long some values in Redis have left.
    pub lives: Part<Vec<Life>>,
    /// Since when each criterion is in its state.
    pub states: HashMap<String, (State, DateTime<Utc>)>,
}

/// Where it is read from.
pub struct Sources<'a> {
    /// The database.
    pub pool: &'a Pool,
    /// The settings.
    pub config: &'a Config,
    /// The cache.
    pub cache: &'a Cache,
    /// The backups.
    pub backups: Backups<'a>,
    /// Where they lie, as far as it was asked.
    pub places: Vec<Place>,
    /// The receivers of alerts.
    pub receivers: Vec<String>,
}

impl Gathered {
    /// Reads everything, one part after the other.
    pub async fn read(sources: Sources<'_>, now: DateTime<Utc>, window: TimeDelta) -> Self {
        let Sources {
            pool,
            config,
            cache,
            backups,
            places,
            receivers,
        } = sources;
        let from = now.checked_sub_signed(window).unwrap_or(now);
        let mut reader = Reader { pool, away: None };
        Self {
            now,
            window,
            config: config.clone(),
            facts: reader
                .part(async |c| facts::read(c, now, window).await)
                .await,
            probes: reader.part(async |c| Probe::newest(c, 10).await).await,
            tasks: reader.part(tasks).await,
            rows: reader.part(async |c| rows(c, from, now).await).await,
            catalogue: reader.part(catalogue).await,
            migrations: reader.by_itself(migrations(pool)).await,
            overdue: reader.part(async |c| overdue(c, now).await).await,
            archives: reader.part(archives).await,
            audit: reader.by_itself(audit(pool)).await,
            backups: reader.by_itself(backups.history(now)).await,
            kept: reader.by_itself(backups.list(true, 200, 0)).await,
            places,
            failures: reader.part(async |c| failures(c, now).await).await,
            untold: reader.part(async |c| untold(c, now).await).await,
            receivers: receivers.into_iter().filter(|name| name != "log").collect(),
            redis: cache.probe(),
            lives: within(cache.lives()).await,
            states: reader.part(states).await.unwrap_or_default(),
        }
    }

    /// The day by which retention should have been run for things to leave: yesterday's night, or the one before.
    pub fn due_day(now: DateTime<Utc>) -> NaiveDate {
        (now - A_NIGHT_LATE).date_naive()
    }
}

/// Reads parts, until the database is found to be away: then the others are not waited for, too.
struct Reader<'a> {
    pool: &'a Pool,
    away: Option<String>,
}

impl Reader<'_> {
    /// Reads a part on a connection of its own, in a transaction that changes nothing and waits for nothing long. It is planned for
    /// its values, so that of samples only the days of the window are locked.
    async fn part<T>(&mut self, read: impl AsyncFnOnce(&Connection) -> Result<T>) -> Part<T> {
        let pool = self.pool;
        let reading = async {
            let begin = "begin read only; set local statement_timeout = '2s'; set local lock_timeout = '500ms'; \
                         set local plan_cache_mode = force_custom_plan";
            let transaction = OpenTransaction::begin(pool, begin).await?;
            let read = read(transaction.connection()?).await;
            transaction.end(read).await
        };
        self.by_itself(reading).await
    }

    /// Reads a part that takes its connections itself.
    async fn by_itself<T>(&mut self, reading: impl Future<Output = Result<T>>) -> Part<T> {
        if let Some(why) = &self.away {
            return Err(why.clone());
        }
        match tokio::time::timeout(CONNECTED_WITHIN, self.pool.get()).await {
            Ok(Ok(_)) => within(reading).await,
            Ok(Err(error)) => Err(self.give_up(error.message().to_owned())),
            Err(_) => Err(self.give_up("no database connection came free".to_owned())),
        }
    }

    fn give_up(&mut self, why: String) -> String {
        self.away.insert(why).clone()
    }
}

async fn within<T>(reading: impl Future<Output = Result<T>>) -> Part<T> {
    match tokio::time::timeout(WITHIN, Box::pin(reading)).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => {
            tracing::debug!(error = %error.report(), "a part of the criteria's evidence could not be read");
            Err(error.message().to_owned())
        }
        Err(_) => Err(format!("it took longer than {} s", WITHIN.as_secs())),
    }
}

async fn tasks(connection: &Connection) -> Result<HashMap<String, Task>> {
    let names: Vec<&str> = TASKS.to_vec();
    let rows = db::query(connection, &queries::TASKS, &[&names]).await?;
    let tasks = rows.iter().map(|row| {
        let task = Task::from_row(row)?;
        Ok((task.name.clone(), task))
    });
    tasks.collect()
}

async fn rows(connection: &Connection, from: DateTime<Utc>, now: DateTime<Utc>) -> Result<Rows> {
    // Samples are looked for in the days of the window alone.
    Rows::from_row(&db::query_one(connection, &queries::ROWS, &[&from, &now]).await?)
}

async fn catalogue(connection: &Connection) -> Result<Catalogue> {
    Catalogue::from_row(&db::query_one(connection, &queries::CATALOGUE, &[]).await?)
}

async fn migrations(pool: &Pool) -> Result<Option<Vec<Migration>>> {
    let connection = pool.get().await?;
    match db::query(&connection, &queries::MIGRATIONS, &[]).await {
        Ok(rows) => {
            let rows = rows.iter().map(Migration::from_row);
            rows.collect::<Result<Vec<_>>>().map(Some)
        }
        Err(error) if error.sql_state() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn overdue(connection: &Connection, now: DateTime<Utc>) -> Result<HashMap<String, Overdue>> {
    let day = Gathered::due_day(now);
    let days_before = |days: u64| day - chrono::Days::new(days);
    // What the criteria say, whatever is configured: 90, 180 days, 2 years, day 455.
    let (metrics, jobs, gone) = (days_before(90), days_before(180), days_before(454));
    let feedback = day
        .checked_sub_months(Months::new(24))
        .unwrap_or(NaiveDate::MIN);
    let ended = now - TimeDelta::days(2);
    let params: db::Params<'_> = &[&metrics, &jobs, &feedback, &gone, &ended];
    let rows = db::query(connection, &queries::OVERDUE, params).await?;
    let found = rows.iter().map(|row| {
        let overdue = Overdue {
            due: row.try_get::<_, i64>("due")?,
            oldest: row.try_get("oldest")?,
        };
        Ok((row.try_get("what")?, overdue))
    });
    found.collect()
}

async fn archives(connection: &Connection) -> Result<HashMap<String, Archives>> {
    let rows = db::query(connection, &queries::ARCHIVES, &[]).await?;
    let found = rows
        .iter()
        .map(|row| Ok((row.try_get("dataset")?, Archives::from_row(row)?)));
    found.collect()
}

async fn audit(pool: &Pool) -> Result<AuditTail> {
    let audit = Audit::new(pool);
    // The head first: entries that come meanwhile are after it, and are left out.
    let head = audit.head().await?;
    let page = audit.list(&Filter::default(), AUDIT_TAIL, None).await?;
    Ok(AuditTail::of(&head, &page.entries))
}

async fn failures(connection: &Connection, now: DateTime<Utc>) -> Result<Vec<Failure>> {
    let from = now - FAILURES_BACK;
    let rows = db::query(connection, &queries::FAILURES, &[&from]).await?;
    rows.iter().map(Failure::from_row).collect()
}

async fn untold(connection: &Connection, now: DateTime<Utc>) -> Result<Untold> {
    let before = now - TOLD_WITHIN;
    let row = db::query_one(connection, &queries::UNTOLD, &[&before]).await?;
    Ok(Untold {
        observed_at: row.try_get("observed_at")?,
        untold: row.try_get("untold")?,
    })
}

async fn states(connection: &Connection) -> Result<HashMap<String, (State, DateTime<Utc>)>> {
    let rows = db::query(connection, &queries::STATES, &[]).await?;
    let mut states = HashMap::new();
    for row in &rows {
        let state: &str = row.try_get("state")?;
        if let Some(state) = State::named(state) {
            states.insert(row.try_get("criterion")?, (state, row.try_get("since_at")?));
        }
    }
    Ok(states)
}
