//! The numbers of series: found, made, and remembered.
//!
//! # What it guarantees
//!
//! * **A number stands for one series only**, also after the database was restored: numbers are remembered together with the
//!   identity of the table that gave them, and whoever writes compares it in the writing transaction.
//! * **No service gets more series than it may have**, however many processes make them: they are made under the lock of
//!   the service's row. Who asks for more is told what the series come from. What a full service asks for is refused from
//!   memory for a while, so that a flood of labels does not become a flood of queries.
//! * **Memory is bounded**: so many names are remembered, no more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache as Local;
use serde_json::Value;

use super::{
    queries,
    sample::{Reason, Rejection, SeriesName},
};
use crate::{
    config::MetricsSettings,
    db::{self, Connection, OpenTransaction, Pool},
    error::Result,
};

/// How many names are remembered.
const REMEMBERED: u64 = 500_000;

/// For how long a service is known to be full.
const FULL_FOR: TimeDelta = TimeDelta::seconds(10);

/// How many full services are known at once.
const MAX_FULL: usize = 1_000;

/// How many names one statement is about.
const AT_ONCE: usize = 5_000;

/// The number of a series, or why it has none.
pub(super) type Numbered = Result<i32, Rejection>;

/// Names with their numbers, and which table gave these.
pub(super) struct Resolved {
    pub numbers: Vec<Numbered>,
    pub identity: Arc<str>,
}

/// What a process knows of series.
pub(super) struct Registry {
    /// Numbers, as the table of `identity` gave them.
    known: RwLock<Known>,
    full: Mutex<HashMap<String, (DateTime<Utc>, Rejection)>>,
    max_series: i64,
    max_services: i64,
}

struct Known {
    identity: Option<Arc<str>>,
    numbers: Local<SeriesName, i32>,
}

/// Names as statements take them.
struct Names<'a> {
    services: Vec<&'a str>,
    types: Vec<&'a str>,
    units: Vec<&'a str>,
    labels: Vec<Value>,
}

impl<'a> Names<'a> {
    fn of(names: impl Iterator<Item = &'a SeriesName> + Clone) -> Self {
        Self {
            services: names.clone().map(|name| &*name.service_name).collect(),
            types: names.clone().map(|name| &*name.metric_type).collect(),
            units: names.clone().map(|name| &*name.unit).collect(),
            labels: names.map(labels).collect(),
        }
    }
}

fn labels(name: &SeriesName) -> Value {
    let fields = name.labels.iter();
    Value::Object(
        fields
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect(),
    )
}

impl Registry {
    pub fn new(settings: &MetricsSettings) -> Self {
        Self {
            known: RwLock::new(Known {
                identity: None,
                numbers: Local::new(REMEMBERED),
            }),
            full: Mutex::default(),
            max_series: settings.max_series_per_service,
            max_services: settings.max_services,
        }
    }

    /// Forgets every number, unless they are of this table.
    pub fn is_of(&self, identity: &str) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.identity.as_deref() == Some(identity) {
            return true;
        }
        known.numbers = Local::new(REMEMBERED);
        known.identity = Some(identity.into());
        false
    }

    /// The numbers of series, in the order of their names, which were checked; those that do not exist are made.
    pub async fn resolve(
        &self,
        pool: &Pool,
        names: &[SeriesName],
        now: DateTime<Utc>,
    ) -> Result<Resolved> {
        let (identity, mut found) = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let found: Vec<Option<Numbered>> = names
                .iter()
                .map(|name| known.numbers.get(name).map(Ok))
                .collect();
            (known.identity.clone(), found)
        };
        if let Some(identity) = identity
            && found.iter().all(Option::is_some)
        {
            let numbers = found.into_iter().flatten().collect();
            return Ok(Resolved { numbers, identity });
        }
        for (name, found) in names.iter().zip(&mut found) {
            if found.is_none() {
                *found = self.refusal(&name.service_name, now).map(Err);
            }
        }
        let connection = pool.get().await?;
        let identity: String = db::query_one(&connection, &queries::IDENTITY, &[])
            .await?
            .try_get("identity")?;
        if !self.is_of(&identity) {
            // What was found above may be of another table.
            found.fill(None);
        }
        let mut missing: Vec<usize> = (0..names.len()).filter(|at| found[*at].is_none()).collect();
        for part in missing.chunks(AT_ONCE) {
            self.find(&connection, names, part, &mut found).await?;
        }
        missing.retain(|at| found[*at].is_none());
        let mut services: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for at in missing {
            services
                .entry(&names[at].service_name)
                .or_default()
                .push(at);
        }
        // One at a time: who holds a connection and waits for another may wait for ever.
        drop(connection);
        for (service, wanted) in services {
            self.make(pool, service, names, &wanted, &mut found, now)
                .await?;
        }
        self.remember(&identity, names, &found);
        let unknown = || {
            rejected(
                "the series could not be made; send it again".into(),
                Reason::TooManySeries,
            )
        };
        Ok(Resolved {
            numbers: found
                .into_iter()
                .map(|found| found.unwrap_or_else(|| Err(unknown())))
                .collect(),
            identity: identity.into(),
        })
    }

    fn remember(&self, identity: &str, names: &[SeriesName], found: &[Option<Numbered>]) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.identity.as_deref() != Some(identity) {
            return;
        }
        for (name, found) in names.iter().zip(found) {
            if let Some(Ok(number)) = found {
                known.numbers.insert(name.clone(), *number);
            }
        }
    }

    async fn find(
        &self,
        connection: &Connection,
        names: &[SeriesName],
        part: &[usize],
        found: &mut [Option<Numbered>],
    ) -> Result<()> {
        let asked = Names::of(part.iter().map(|at| &names[*at]));
        let params: db::Params<'_> = &[&asked.services, &asked.types, &asked.units, &asked.labels];
        for row in db::query(connection, &queries::FIND_SERIES, params).await? {
            let ord = usize::try_from(row.try_get::<_, i64>("ord")? - 1).unwrap_or_default();
            if let Some(at) = part.get(ord) {
                found[*at] = Some(Ok(row.try_get("id")?));
            }
        }
        Ok(())
    }

    /// Makes what a service has room for, and refuses the rest.
    async fn make(
        &self,
        pool: &Pool,
        service: &str,
        names: &[SeriesName],
        wanted: &[usize],
        found: &mut [Option<Numbered>],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let open = OpenTransaction::begin(pool, "begin").await?;
        let connection = open.connection()?;
        let made = async {
            let is_made = self
                .make_in_tx(connection, service, names, wanted, now)
                .await?;
            for part in wanted.chunks(AT_ONCE) {
                self.find(connection, names, part, found).await?;
            }
            if wanted.iter().all(|at| found[*at].is_some()) {
                return Ok(None);
            }
            let refusal = if is_made {
                rejected(
                    self.why_full(connection, service).await?,
                    Reason::TooManySeries,
                )
            } else {
                let max = self.max_services;
                rejected(
                    format!(
                        "there are {max} services already: check what the sender calls itself, or raise metrics.max_services"
                    ),
                    Reason::TooManyServices,
                )
            };
            Ok(Some(refusal))
        };
        let made = made.await;
        let Some(refusal) = open.end(made).await? else {
            return Ok(());
        };
        self.note_full(service, &refusal, now);
        for at in wanted {
            found[*at].get_or_insert_with(|| Err(refusal.clone()));
        }
        Ok(())
    }

    /// Whether there is such a service, so that series of it were made.
    async fn make_in_tx(
        &self,
        connection: &Connection,
        service: &str,
        names: &[SeriesName],
        wanted: &[usize],
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let find = async || db::query_opt(connection, &queries::FIND_SERVICE, &[&service]).await;
        if find().await?.is_none() {
            let params: db::Params<'_> = &[&service, &now, &self.max_services];
            db::execute(connection, &queries::MAKE_SERVICE, params).await?;
            if find().await?.is_none() {
                return Ok(false);
            }
        }
        for part in wanted.chunks(AT_ONCE) {
            let asked = Names::of(part.iter().map(|at| &names[*at]));
            let params: db::Params<'_> = &[
                &service,
                &asked.types,
                &asked.units,
                &asked.labels,
                &now,
                &self.max_series,
            ];
            db::execute(connection, &queries::MAKE_SERIES, params).await?;
        }
        Ok(true)
    }

    /// What the series of a full service come from.
    async fn why_full(&self, connection: &Connection, service: &str) -> Result<String> {
        let rows = db::query(connection, &queries::WORST_LABELS, &[&service]).await?;
        let worst = rows
            .iter()
            .map(|row| {
                let label: &str = row.try_get("label")?;
                let values: i64 = row.try_get("value_count")?;
                let metric_type: &str = row.try_get("metric_type")?;
                Ok(format!(
                    "{label:?} has {values} values (most of them in {metric_type:?})"
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        let why = if worst.is_empty() {
            "it reports so many types of metrics".to_owned()
        } else {
            format!("of its labels {}", worst.join(", "))
        };
        let max = self.max_series;
        Ok(format!(
            "service {service:?} has its {max} series: {why}; drop such labels, or raise metrics.max_series_per_service"
        ))
    }

    fn refusal(&self, service: &str, now: DateTime<Utc>) -> Option<Rejection> {
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, refusal) = full.get(service)?;
        (now < *until && *until <= now + FULL_FOR).then(|| refusal.clone())
    }

    fn note_full(&self, service: &str, refusal: &Rejection, now: DateTime<Utc>) {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if full.len() >= MAX_FULL {
            full.retain(|_, (until, _)| now < *until);
        }
        if full.len() < MAX_FULL {
            full.insert(service.to_owned(), (now + FULL_FOR, refusal.clone()));
        }
    }
}

fn rejected(message: String, reason: Reason) -> Rejection {
    let field = match reason {
        Reason::TooManyServices => "service_name",
        _ => "labels",
    };
    Rejection {
        reason,
        field,
        message,
    }
}
