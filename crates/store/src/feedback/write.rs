//! Rating, commenting, flagging, and withdrawing each.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Entry, Fact, Feedback, FlagType, batch::Change, queries};
use crate::{
    db::{self, TransactionId},
    error::{Error, FieldError, Result},
    measure::Meter,
};

/// A committed write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The user's feedback on the insight as this write left it. Without any fact: nothing is left, the row is gone.
    pub entry: Entry,
    /// The transaction that wrote it: a read that is to see it needs a snapshot that does.
    pub transaction: TransactionId,
}

impl Written {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let transaction: &str = row.try_get("transaction")?;
        Ok(Self {
            entry: Entry::from_row(row)?,
            transaction: transaction.parse()?,
        })
    }
}

impl Feedback<'_> {
    /// Rates an insight, 1 to 5, replacing the user's earlier rating; without a comment the earlier one stays.
    ///
    /// Committed when it returns. Dropped before that, it may or may not be written.
    pub async fn rate(
        &self,
        insight_id: &str,
        user_id: &str,
        rating: i16,
        comment: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Written> {
        let mut change = change(insight_id, user_id, now);
        change.rating = Some(rating);
        change.comment = comment.map(str::to_owned);
        self.pool
            .measured(Meter::RatingWrite, self.write(change))
            .await
    }

    /// Comments on an insight, replacing the user's earlier comment.
    pub async fn comment(
        &self,
        insight_id: &str,
        user_id: &str,
        comment: &str,
        now: DateTime<Utc>,
    ) -> Result<Written> {
        let mut change = change(insight_id, user_id, now);
        change.comment = Some(comment.to_owned());
        self.write(change).await
    }

    /// Flags an insight, replacing the user's earlier flag and its reason.
    pub async fn flag(
        &self,
        insight_id: &str,
        user_id: &str,
        flag_type: FlagType,
        reason: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Written> {
        let mut change = change(insight_id, user_id, now);
        change.flag = Some((flag_type, reason.map(str::to_owned)));
        self.write(change).await
    }

    async fn write(&self, change: Change) -> Result<Written> {
        check(&change)?;
        let _noting = self.noting(&change.insight_id);
        self.writer.write(change).await
    }

    /// Takes one fact back; `nothing_to_withdraw` when it is not there. Nothing is left of feedback without facts but its
    /// history.
    pub async fn withdraw(
        &self,
        insight_id: &str,
        user_id: &str,
        fact: Fact,
        now: DateTime<Utc>,
    ) -> Result<Written> {
        check(&change(insight_id, user_id, now))?;
        let _noting = self.noting(insight_id);
        let _place = self.writer.withdrawal_place().await;
        let connection = self.pool.get().await?;
        let row = db::query_opt(
            &connection,
            &queries::WITHDRAW,
            &[&insight_id, &user_id, &fact.as_str(), &now],
        )
        .await?;
        let row = row.ok_or_else(|| {
            Error::not_found(
                "nothing_to_withdraw",
                format!(
                    "this user has no {} on this insight that could be withdrawn",
                    fact.as_str()
                ),
            )
        })?;
        self.writer.fold_soon();
        Written::from_row(&row)
    }
}

fn change(insight_id: &str, user_id: &str, now: DateTime<Utc>) -> Change {
    Change {
        insight_id: insight_id.to_owned(),
        user_id: user_id.to_owned(),
        rating: None,
        comment: None,
        flag: None,
        at: now,
    }
}

/// The lengths that the table allows, in characters.
const ID: RangeInclusive<usize> = 1..=100;
const COMMENT: RangeInclusive<usize> = 1..=1_000;
const REASON: RangeInclusive<usize> = 1..=500;

/// Refuses what the table would refuse: in a shared transaction that would be everyone's trouble.
fn check(change: &Change) -> Result<()> {
    let mut errors = Vec::new();
    let mut say = |field: &str, message: Option<String>| {
        errors.extend(message.map(|message| FieldError::new(field, message)));
    };
    for (field, id) in [
        ("insight_id", &change.insight_id),
        ("user_id", &change.user_id),
    ] {
        let control = id.chars().any(char::is_control);
        let message = control.then(|| "must not contain control characters".to_owned());
        say(field, refusal(id, &ID).or(message));
    }
    if change
        .rating
        .is_some_and(|rating| !(1..=5).contains(&rating))
    {
        say(
            "rating",
            Some("must be a whole number from 1 to 5".to_owned()),
        );
    }
    if let Some(comment) = &change.comment {
        say("comment", refusal(comment, &COMMENT));
    }
    if let Some((_, Some(reason))) = &change.flag {
        say("flag_reason", refusal(reason, &REASON));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::fields(errors))
    }
}

fn refusal(text: &str, length: &RangeInclusive<usize>) -> Option<String> {
    // A character has at most four bytes: a megabyte is refused without being counted.
    if text.len() / 4 > *length.end() || text.chars().count() > *length.end() {
        return Some(format!("must have at most {} characters", length.end()));
    }
    if text.trim().is_empty() {
        return Some("must not be blank".to_owned());
    }
    text.contains('\0')
        .then(|| "must not contain NUL characters".to_owned())
}
