//! A small cache in front of [`Tokens`], so that a request costs no query.

use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::future::Cache;

use super::{
    Caller, Tokens,
    secret::{Hash, Presented, sha256},
};
use crate::{
    db::Pool,
    error::{Error, Result},
};

/// The most answers kept. An entry takes some 300 bytes; far fewer tokens exist, the rest are wrong ones.
const CAPACITY: u64 = 10_000;

/// Remembers for a moment what [`Tokens::authenticate`] said.
///
/// * A token that was revoked works for at most the time to live (plus the look-up under way); an expired one stops
///   at once, because its time is kept beside it.
/// * Requests at once with one token make one look-up.
/// * "No" is remembered too, in the same bounded cache, whose admission prefers what is asked for often: a flood of
///   wrong tokens does not displace the right ones. What has not the form of a token takes no room at all.
/// * Its keys are SHA-256 hashes: no token stays in memory in clear beyond the call.
///
/// Clones share the entries.
#[derive(Debug, Clone)]
pub struct TokenCache {
    pool: Pool,
    /// `None`: every call asks the database.
    answers: Option<Cache<Hash, Option<Caller>>>,
}

impl TokenCache {
    /// A cache over the tokens behind a pool; a time to live of zero remembers nothing.
    pub fn new(pool: Pool, time_to_live: Duration) -> Self {
        let answers = (!time_to_live.is_zero()).then(|| {
            Cache::builder()
                .name("tokens")
                .max_capacity(CAPACITY)
                .time_to_live(time_to_live)
                .build()
        });
        Self { pool, answers }
    }

    /// As [`Tokens::authenticate`]. An error is not remembered.
    pub async fn authenticate(
        &self,
        presented: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Caller>> {
        let tokens = Tokens::new(&self.pool);
        let Some(answers) = &self.answers else {
            return tokens.authenticate(presented, now).await;
        };
        if Presented::parse(presented).is_none() {
            return Ok(None);
        }
        let answer = answers
            .try_get_with(
                sha256(presented.as_bytes()),
                tokens.authenticate(presented, now),
            )
            .await
            .map_err(|error| shared(&error))?;
        Ok(answer.filter(|caller| caller.expires_at.is_none_or(|expires_at| now < expires_at)))
    }

    /// How many answers are remembered; approximate.
    pub async fn len(&self) -> u64 {
        match &self.answers {
            None => 0,
            Some(answers) => {
                answers.run_pending_tasks().await;
                answers.entry_count()
            }
        }
    }
}

/// The error of a look-up that several requests waited for, for one of them.
fn shared(error: &Error) -> Error {
    Error::new(error.kind(), error.code(), error.message().to_owned()).with_source(error.report())
}
