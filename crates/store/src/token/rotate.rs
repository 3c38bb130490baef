//! A new secret for a token, without a moment in which its callers are shut out.
//!
//! ```text
//!           rotate                      previous_until
//! ────────────┼──────────── overlap ───────────┼──────────►
//!  old works  │  old works, its use is noted   │  old is refused
//!             │  new works                     │  new works
//! ```
//!
//! The token stays the same: id, name, scopes, rate limit and figures. There are never more than two secrets; so while
//! the old one still works, the secret is not replaced again unless that is forced, which ends the older one at once.

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{Token, Tokens, not_found, queries, refused, secret, token_from};
use crate::{
    clock::to_micros,
    config::Secret,
    db,
    error::{Error, Result},
};

/// The longest time for which a replaced secret goes on working.
pub const MAX_OVERLAP: TimeDelta = TimeDelta::days(90);

impl Tokens<'_> {
    /// Replaces a token's secret and returns the token with its new text, which exists nowhere else. The old secret works
    /// until `overlap` from `now` on has passed. The token is named by its id, or by the name of one that is not revoked.
    ///
    /// Fails as `token_not_found`, as the conflict `token_not_live` where it is revoked or expired, and as the conflict
    /// `rotation_under_way` while an earlier secret still works, unless `forced`: then that one ends at once.
    pub async fn rotate(
        &self,
        name_or_id: &str,
        overlap: TimeDelta,
        forced: bool,
        now: DateTime<Utc>,
    ) -> Result<(Token, Secret)> {
        let now = to_micros(now);
        if overlap < TimeDelta::zero() || overlap > MAX_OVERLAP {
            let message = format!("must be from 0 hours to {} days", MAX_OVERLAP.num_days());
            return Err(Error::field("overlap", message));
        }
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        let token = lock(&tx, name_or_id).await?;
        check(&token, forced, now)?;
        let (hash, text) = secret::generate_for(token.id)?;
        let until = now + overlap;
        let params: db::Params<'_> = &[&token.id, &hash.as_slice(), &now, &until];
        let row = db::query_one(&tx, &queries::ROTATE, params)
            .await
            .map_err(refused)?;
        let token = token_from(&row);
        tx.commit().await?;
        Ok((token, text))
    }
}

/// Finds a token and keeps other rotations of it waiting.
async fn lock(tx: &Transaction<'_>, name_or_id: &str) -> Result<Token> {
    if name_or_id.contains('\0') {
        return Err(not_found());
    }
    let found = match Uuid::try_parse(name_or_id) {
        Ok(id) => db::query_opt(tx, &queries::LOCK_ID, &[&id]).await,
        Err(_) => db::query_opt(tx, &queries::LOCK_NAME, &[&name_or_id]).await,
    };
    let row = found.map_err(refused)?;
    row.as_ref().map(token_from).ok_or_else(not_found)
}

fn check(token: &Token, forced: bool, now: DateTime<Utc>) -> Result<()> {
    if !token.is_live(now) {
        return Err(Error::conflict(
            "token_not_live",
            "the token is revoked or expired: make a new one with `token create`",
        ));
    }
    match token.previous_until {
        Some(until) if until > now && !forced => Err(Error::conflict(
            "rotation_under_way",
            format!(
                "the secret before this one still works until {}: wait for that, or force it, which ends that one at once",
                until.format("%Y-%m-%dT%H:%M:%SZ")
            ),
        )),
        _ => Ok(()),
    }
}
