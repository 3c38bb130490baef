//! Legal holds: what neither leaves the database nor cold storage, whatever its age (C7).
//!
//! A hold is placed in a transaction that no deletion runs beside (a lock on the table of holds): what was deleted before
//! is gone, and everything after asks for it. It is named in the audit log, a user by pseudonym only. When it is released
//! its row goes; the log keeps who placed and who released it, and why.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Retention, queries};
use crate::{
    audit,
    clock::{to_micros, uuid_at},
    cold::Dataset,
    db,
    error::{Error, FieldError, Result},
};

/// The longest reason, in characters.
pub const MAX_REASON: usize = 1_000;

/// The longest name of a user or an insight, in characters.
const MAX_NAME: usize = 100;

/// What a hold keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Held {
    /// Days, of one dataset or of all.
    Day {
        /// The dataset; all where there is none.
        #[serde(serialize_with = "name_of")]
        dataset: Option<Dataset>,
        /// The first day.
        first_day: NaiveDate,
        /// The last one.
        last_day: NaiveDate,
    },
    /// The feedback and history of a user.
    User {
        /// The user.
        user_id: String,
    },
    /// The feedback and history of an insight.
    Insight {
        /// The insight.
        insight_id: String,
    },
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn name_of<S: serde::Serializer>(dataset: &Option<Dataset>, to: S) -> Result<S::Ok, S::Error> {
    match dataset {
        Some(dataset) => to.serialize_some(dataset.name()),
        None => to.serialize_none(),
    }
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Its id.
    pub id: Uuid,
    /// What it keeps.
    #[serde(flatten)]
    pub held: Held,
    /// Why.
    pub reason: String,
    /// Who placed it.
    pub placed_by: String,
    /// When.
    pub placed_at: DateTime<Utc>,
    /// When it ends by itself; at no time where there is none.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Hold {
    fn from_row(row: &Row) -> Result<Self> {
        let scope: &str = row.try_get("scope")?;
        let held = match scope {
            "user" => Held::User {
                user_id: row.try_get("user_id")?,
            },
            "insight" => Held::Insight {
                insight_id: row.try_get("insight_id")?,
            },
            _ => Held::Day {
                dataset: row
                    .try_get::<_, Option<&str>>("dataset")?
                    .and_then(Dataset::from_name),
                first_day: row.try_get("first_day")?,
                last_day: row.try_get("last_day")?,
            },
        };
        Ok(Self {
            id: row.try_get("id")?,
            held,
            reason: row.try_get("reason")?,
            placed_by: row.try_get("placed_by")?,
            placed_at: row.try_get("placed_at")?,
            expires_at: row.try_get("expires_at")?,
        })
    }
}

impl Retention<'_> {
    /// Places a hold from `now` on, until it is released or `expires_at` has passed.
    ///
    /// Refuses what is not valid by field, and a hold of a user with `no_pseudonym_key` where no key is configured to name
    /// that user in the audit log.
    pub async fn place_hold(
        &self,
        held: Held,
        reason: &str,
        expires_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        actor: &str,
    ) -> Result<Hold> {
        let now = to_micros(now);
        let expires_at = expires_at.map(to_micros);
        check(&held, reason, expires_at, now)?;
        let shown_as = self.shown_as(&held)?;
        let hold = Hold {
            id: uuid_at(now),
            held,
            reason: reason.to_owned(),
            placed_by: actor.to_owned(),
            placed_at: now,
            expires_at,
        };
        let (scope, dataset, first, last, user, insight) = match &hold.held {
            Held::Day {
                dataset,
                first_day,
                last_day,
            } => {
                let dataset = dataset.map(Dataset::name);
                ("day", dataset, Some(first_day), Some(last_day), None, None)
            }
            Held::User { user_id } => ("user", None, None, None, Some(user_id), None),
            Held::Insight { insight_id } => ("insight", None, None, None, None, Some(insight_id)),
        };
        let params: db::Params<'_> = &[
            &hold.id,
            &scope,
            &dataset,
            &first,
            &last,
            &user,
            &insight,
            &hold.reason,
            &actor,
            &now,
            &expires_at,
            &shown_as,
        ];
        let connection = self.pool.get().await?;
        db::query_one(&connection, &queries::PLACE_HOLD, params).await?;
        Ok(hold)
    }

    /// Releases a hold. Fails with `no_such_hold` where there is none of that id.
    pub async fn release_hold(
        &self,
        id: Uuid,
        why: &str,
        now: DateTime<Utc>,
        actor: &str,
    ) -> Result<Hold> {
        check_reason(why)?;
        let holds = self.holds().await?;
        let hold = holds.into_iter().find(|hold| hold.id == id);
        let hold = hold.ok_or_else(no_such_hold)?;
        if self.release(&hold, why, now, actor).await? {
            Ok(hold)
        } else {
            Err(no_such_hold())
        }
    }

    /// Releases the holds whose end has passed at `now`; gives how many.
    pub async fn release_expired_holds(&self, now: DateTime<Utc>, actor: &str) -> Result<u64> {
        let (mut released, mut failed) = (0, None);
        for hold in self.holds().await? {
            if hold.expires_at.is_some_and(|end| end <= now) {
                let why = "its end has passed";
                match self.release(&hold, why, now, actor).await {
                    Ok(was_there) => released += u64::from(was_there),
                    // The others are released all the same.
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(released), Err)
    }

    /// Every hold, the newest first.
    pub async fn holds(&self) -> Result<Vec<Hold>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::HOLDS, &[]).await?;
        rows.iter().map(Hold::from_row).collect()
    }

    async fn release(
        &self,
        hold: &Hold,
        why: &str,
        now: DateTime<Utc>,
        actor: &str,
    ) -> Result<bool> {
        let shown_as = self.shown_as(&hold.held)?;
        let params: db::Params<'_> = &[&hold.id, &shown_as, &why, &now, &actor];
        let connection = self.pool.get().await?;
        let row = db::query_one(&connection, &queries::RELEASE_HOLD, params).await?;
        Ok(row.try_get("released")?)
    }

    /// What the audit log calls it.
    fn shown_as(&self, held: &Held) -> Result<String> {
        Ok(match held {
            Held::Day {
                dataset,
                first_day,
                last_day,
            } => {
                let dataset = dataset.map_or("all", Dataset::name);
                format!("{dataset}/{first_day}..{last_day}")
            }
            Held::User { user_id } => format!("user/{}", self.pseudonym(user_id)?),
            Held::Insight { insight_id } => format!("insight/{insight_id}"),
        })
    }

    /// What the audit log calls a user.
    pub fn pseudonym(&self, user_id: &str) -> Result<String> {
        audit::pseudonym_by(&self.config.retention, user_id)
    }
}

fn no_such_hold() -> Error {
    Error::not_found(
        "no_such_hold",
        "there is no hold of that id; `retention hold list` shows all",
    )
}

fn check_reason(reason: &str) -> Result<()> {
    if reason.trim().is_empty() || reason.chars().nth(MAX_REASON).is_some() {
        let message = format!("must say why, in at most {MAX_REASON} characters");
        return Err(Error::field("reason", message));
    }
    if reason.chars().any(char::is_control) {
        return Err(Error::field(
            "reason",
            "must not contain control characters",
        ));
    }
    Ok(())
}

/// Refuses what can be nobody's id.
pub(super) fn check_name(field: &'static str, name: &str) -> Result<()> {
    let is_long = name.chars().nth(MAX_NAME).is_some();
    if name.is_empty() || is_long || name.chars().any(char::is_control) {
        let message =
            format!("must have 1 to {MAX_NAME} characters, none of them a control character");
        return Err(Error::field(field, message));
    }
    Ok(())
}

fn check(
    held: &Held,
    reason: &str,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<()> {
    check_reason(reason)?;
    let mut wrong = Vec::new();
    if expires_at.is_some_and(|end| end <= now) {
        wrong.push(FieldError::new("expires_at", "must be in the future"));
    }
    match held {
        Held::Day {
            first_day,
            last_day,
            ..
        } if first_day > last_day => {
            wrong.push(FieldError::new("last_day", "must not be before first_day"));
        }
        Held::Day { .. } => {}
        Held::User { user_id: name } | Held::Insight { insight_id: name } => {
            let field = if matches!(held, Held::User { .. }) {
                "user_id"
            } else {
                "insight_id"
            };
            if let Err(error) = check_name(field, name) {
                wrong.extend(error.field_errors().iter().cloned());
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Error::fields(wrong))
    }
}
