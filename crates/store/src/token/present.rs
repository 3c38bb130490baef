//! Who a presented token belongs to.

use chrono::{DateTime, TimeDelta, Utc};
use subtle::{Choice, ConstantTimeEq as _};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Caller, Identity, Tokens, queries, scopes_from, secret};
use crate::{
    db::{self, Connection},
    error::Result,
};

/// `last_used_at` is written at most so often for each token.
const TOUCH_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// What is compared where there is no hash. No secret is known that hashes to it, and the answer is `None` anyway.
const DUMMY_HASH: secret::Hash = [0; 32];

/// Which of a token's secrets was presented.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    Present,
    Previous,
}

impl Tokens<'_> {
    /// The caller that a presented token belongs to; `None` when it is malformed, unknown, wrong, expired or revoked, or has
    /// the secret that was replaced and its time is over.
    ///
    /// Notes the token's use, at most once a minute, after the answer: on the connection that the look-up used, so
    /// that it waits for nothing and holds up nobody.
    pub async fn authenticate(
        &self,
        presented: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Caller>> {
        let Some(presented) = secret::Presented::parse(presented) else {
            return Ok(None);
        };
        let connection = self.pool.get().await?;
        let row = db::query_opt(&connection, &queries::FIND, &[&presented.id]).await?;
        let which = matching(row.as_ref(), &presented.secret_hash);
        let Some((row, which)) = row.zip(which) else {
            return Ok(None);
        };
        let expires_at = end(&row, which);
        let revoked_at: Option<DateTime<Utc>> = row.get("revoked_at");
        if revoked_at.is_some() || expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Ok(None);
        }
        let used = match which {
            Secret::Present => "last_used_at",
            Secret::Previous => "previous_used_at",
        };
        let last_used_at: Option<DateTime<Utc>> = row.get(used);
        if last_used_at.is_none_or(|used_at| used_at <= now - TOUCH_INTERVAL) {
            let previous = (which == Secret::Previous).then_some(presented.secret_hash);
            tokio::spawn(touch(connection, presented.id, previous, now));
        }
        Ok(Some(Caller {
            identity: Identity::Token {
                id: presented.id,
                name: row.get("name"),
            },
            subject: row.get("subject"),
            scopes: scopes_from(&row),
            rate_tier: row.get("rate_tier"),
            expires_at,
        }))
    }
}

/// Which secret a hash is of. Both are compared, in constant time, whatever there is: neither the answer nor its time tells
/// whether the id exists, or whether its secret was replaced.
fn matching(row: Option<&Row>, presented: &secret::Hash) -> Option<Secret> {
    let hash = |column: &str| -> Option<&[u8]> { row.and_then(|row| row.get(column)) };
    let is = |stored: Option<&[u8]>| {
        let is_there = Choice::from(u8::from(stored.is_some()));
        stored.unwrap_or(&DUMMY_HASH).ct_eq(presented) & is_there
    };
    let (present, previous) = (is(hash("secret_hash")), is(hash("previous_hash")));
    if bool::from(present) {
        Some(Secret::Present)
    } else {
        bool::from(previous).then_some(Secret::Previous)
    }
}

/// From when on a secret no longer works: the one that was replaced ends with its overlap, or with the token.
fn end(row: &Row, which: Secret) -> Option<DateTime<Utc>> {
    let expires_at: Option<DateTime<Utc>> = row.get("expires_at");
    match which {
        Secret::Present => expires_at,
        Secret::Previous => {
            let until: Option<DateTime<Utc>> = row.get("previous_until");
            until.into_iter().chain(expires_at).min()
        }
    }
}

/// Notes that a token was used, and by its replaced secret, where it was that one. Several processes may try at once: the
/// condition lets one through each minute.
async fn touch(
    connection: Connection,
    id: Uuid,
    previous: Option<secret::Hash>,
    now: DateTime<Utc>,
) {
    let before = now - TOUCH_INTERVAL;
    let noted = match previous {
        None => db::execute(&connection, &queries::TOUCH, &[&id, &now, &before]).await,
        Some(hash) => {
            let params: db::Params<'_> = &[&id, &now, &before, &hash.as_slice()];
            db::execute(&connection, &queries::TOUCH_PREVIOUS, params).await
        }
    };
    if let Err(error) = noted {
        tracing::warn!(token = %id, error = error.report(), "the use of a token could not be noted");
    }
}
