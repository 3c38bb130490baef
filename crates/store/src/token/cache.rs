//! A small cache in front of [`Tokens`], so that a request costs no query.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use moka::{future, sync};
use tokio::sync::Semaphore;

use super::{
    Caller, Tokens,
    secret::{self, Hash, sha256},
};
use crate::{
    db::Pool,
    error::{Error, Result},
};

/// For how long it is remembered that a token was right; see [`TokenCache::was_right`].
const LATELY: Duration = Duration::from_hours(1);

/// The most answers kept, right ones and wrong ones each. An entry takes some 300 bytes, and far fewer tokens exist.
const CAPACITY: u64 = 10_000;

/// How many connections look up tokens that were not right lately. One does some thousand a second.
const STRANGERS: usize = 2;

/// Remembers for a moment what [`Tokens::authenticate`] said.
///
/// * A token that was revoked works for at most the time to live (plus the look-up under way); an expired one stops
///   at once, because its time is kept beside it.
/// * Requests at once with one token make one look-up.
/// * "No" is remembered too. Right answers are kept apart as well, so that a flood of wrong tokens, which fills its
///   own bounded part, displaces none of them. What has not the form of a token takes no room at all.
/// * Tokens that were not right lately are looked up by at most [`STRANGERS`] connections at once, the others waiting their turn:
///   a flood of guessed tokens cannot take the pool from those who are known, and shuts out nobody who is new.
/// * Its keys are SHA-256 hashes: no token stays in memory in clear beyond the call.
///
/// Clones share the entries.
#[derive(Debug, Clone)]
pub struct TokenCache {
    pool: Pool,
    /// `None`: every call asks the database.
    parts: Option<Parts>,
    /// What was right lately.
    right: sync::Cache<Hash, ()>,
    strangers: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Parts {
    /// Valid tokens only.
    callers: sync::Cache<Hash, Arc<Caller>>,
    /// Every answer; where requests at once meet.
    answers: future::Cache<Hash, Option<Arc<Caller>>>,
}

impl TokenCache {
    /// A cache over the tokens behind a pool; a time to live of zero remembers nothing.
    pub fn new(pool: Pool, time_to_live: Duration) -> Self {
        let parts = (!time_to_live.is_zero()).then(|| Parts {
            callers: sync::Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(time_to_live)
                .build(),
            answers: future::Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(time_to_live)
                .build(),
        });
        let right = sync::Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(LATELY)
            .build();
        Self {
            pool,
            parts,
            right,
            strangers: Arc::new(Semaphore::new(STRANGERS)),
        }
    }

    /// As [`Tokens::authenticate`]. An error is not remembered.
    pub async fn authenticate(
        &self,
        presented: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Caller>>> {
        if !secret::has_form(presented) {
            return Ok(None);
        }
        let Some(parts) = &self.parts else {
            let caller = Box::pin(self.look_up(presented, now)).await?;
            if caller.is_some() {
                self.right.insert(sha256(presented.as_bytes()), ());
            }
            return Ok(caller.map(Arc::new));
        };
        let key = sha256(presented.as_bytes());
        let mut answer = parts.callers.get(&key);
        if answer.is_none() {
            // In a box, so that the way of a request whose token is known, nearly every one, is not as wide as this one.
            answer = Box::pin(parts.look_up(key, self.look_up(presented, now))).await?;
            if answer.is_some() {
                self.right.insert(key, ());
            }
        }
        Ok(answer.filter(|caller| caller.expires_at.is_none_or(|expires_at| now < expires_at)))
    }

    async fn look_up(&self, presented: &str, now: DateTime<Utc>) -> Result<Option<Caller>> {
        let _turn = if self.was_right(presented) {
            None
        } else {
            // The semaphore is never closed.
            self.strangers.acquire().await.ok()
        };
        Tokens::new(&self.pool).authenticate(presented, now).await
    }

    /// Whether a token was right within the last hour. That makes it no right one now; but who has it is not guessing, and is worth
    /// a look-up where others from the same place are not.
    pub fn was_right(&self, presented: &str) -> bool {
        self.right.contains_key(&sha256(presented.as_bytes()))
    }

    /// How many answers are remembered; approximate.
    pub async fn len(&self) -> u64 {
        let Some(parts) = &self.parts else { return 0 };
        parts.answers.run_pending_tasks().await;
        parts.answers.entry_count()
    }

    /// Whether nothing is remembered.
    pub async fn is_empty(&self) -> bool {
        self.len().await == 0
    }
}

impl Parts {
    async fn look_up(
        &self,
        key: Hash,
        answer: impl Future<Output = Result<Option<Caller>>>,
    ) -> Result<Option<Arc<Caller>>> {
        let asked = async {
            let answer = answer.await?.map(Arc::new);
            if let Some(caller) = &answer {
                self.callers.insert(key, Arc::clone(caller));
            }
            Ok(answer)
        };
        self.answers
            .try_get_with(key, asked)
            .await
            .map_err(Error::shared)
    }
}
