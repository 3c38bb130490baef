//! Rating, commenting, flagging, and withdrawing each.

use chrono::{DateTime, Utc};

use super::{Entry, Fact, Feedback, FlagType};
use crate::{
    db::TransactionId,
    error::{Error, Result},
};

/// A committed write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The user's feedback on the insight as this write left it. Without any fact: nothing is left, the row is gone.
    pub entry: Entry,
    /// The transaction that wrote it: a read that is to see it needs a snapshot that does.
    pub transaction: TransactionId,
}

impl Feedback<'_> {
    /// Rates an insight, 1 to 5, replacing the user's earlier rating; without a comment the earlier one stays.
    pub async fn rate(
        &self,
        _insight_id: &str,
        _user_id: &str,
        _rating: i16,
        _comment: Option<&str>,
        _now: DateTime<Utc>,
    ) -> Result<Written> {
        Err(Error::internal("not there yet"))
    }

    /// Comments on an insight, replacing the user's earlier comment.
    pub async fn comment(
        &self,
        _insight_id: &str,
        _user_id: &str,
        _comment: &str,
        _now: DateTime<Utc>,
    ) -> Result<Written> {
        Err(Error::internal("not there yet"))
    }

    /// Flags an insight, replacing the user's earlier flag and its reason.
    pub async fn flag(
        &self,
        _insight_id: &str,
        _user_id: &str,
        _flag_type: FlagType,
        _reason: Option<&str>,
        _now: DateTime<Utc>,
    ) -> Result<Written> {
        Err(Error::internal("not there yet"))
    }

    /// Takes one fact back; `nothing_to_withdraw` when it is not there.
    pub async fn withdraw(
        &self,
        _insight_id: &str,
        _user_id: &str,
        _fact: Fact,
        _now: DateTime<Utc>,
    ) -> Result<Written> {
        Err(Error::internal("not there yet"))
    }
}
