//! Service tokens: who calls, and what the caller may do.
//!
//! # What it guarantees
//!
//! * The database holds SHA-256 hashes only. A token's text is shown once, when it is made. A secret has 256 random
//!   bits: nothing can be guessed, so that a slow password hash would protect nobody.
//! * A token is found by its public id and its hash compared in constant time; an unknown id is compared with a dummy,
//!   so that neither the answer nor its time tells whether an id exists.
//! * Whatever is presented (NUL, a megabyte, another script) gives `None`, never an error, and only what has the exact
//!   form of a token reaches the database.
//! * The serving role can read tokens and note their use, and can neither make nor widen nor revive one; see the
//!   grants in the migration. Making and revoking is done with the administrator's connection.
//!
//! A revoked token stops working at once in [`Tokens::authenticate`], and within the cache's time to live behind a
//! [`TokenCache`]; an expired one at once in both. A token's secret is replaced without a gap: see `rotate`.

mod cache;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod granted;
mod present;
pub mod queries;
mod rotate;
mod scope;
mod secret;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::{Row, error::SqlState};
use uuid::Uuid;

pub use cache::TokenCache;
pub use granted::Granted;
pub use rotate::MAX_OVERLAP;
pub use scope::Scope;

use crate::{
    clock::to_micros,
    config::Secret,
    db::{self, Pool},
    error::{Error, FieldError, Result},
};

/// The longest name, subject and creator, in characters; the table's CHECKs say the same.
const MAX_TEXT: usize = 100;

/// The longest name of a tier, in characters; the table's CHECK says the same.
const MAX_TIER: usize = 50;

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What people call it; unique among tokens that are not revoked.
    pub name: String,
    /// The user id under which its owner acts for itself; the name where it is not given.
    pub subject: Option<String>,
    /// What it may do; not empty.
    pub scopes: BTreeSet<Scope>,
    /// The tier of its rate limit, as the configuration names them; none: that of service tokens.
    pub rate_tier: Option<String>,
    /// From when on it no longer works; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Who makes it.
    pub created_by: String,
}

/// A token as it is shown: all but the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its public id, the first half of its text.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// The user id under which its owner acts for itself.
    pub subject: String,
    /// What it may do. A scope that this program does not know is left out.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// From when on it no longer works.
    pub expires_at: Option<DateTime<Utc>>,
    /// The tier of its rate limit.
    pub rate_tier: Option<String>,
    /// When it was last used, by either secret, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When its secret was last replaced.
    pub rotated_at: Option<DateTime<Utc>>,
    /// Until when the secret that it had before works, too.
    pub previous_until: Option<DateTime<Utc>>,
    /// When that one was last used, to the minute; never since it was replaced where there is none.
    pub previous_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Token {
    /// Whether it works at `now`.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// How a caller showed who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By a service token.
    Token {
        /// The token's id.
        id: Uuid,
        /// The token's name.
        name: String,
    },
    /// As an end user, by a token of the identity provider. Who it is, is the caller's subject.
    User,
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// How it showed who it is.
    pub identity: Identity,
    /// The user id under which the caller acts for itself.
    pub subject: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// The tier of its rate limit, as the configuration names them; none: that of its kind of caller.
    pub rate_tier: Option<String>,
    /// From when on what it presented no longer works.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Caller {
    /// What tells it from all other callers, as a text: the id of a service token, which stays the same when its secret is
    /// replaced, or `user:` and the user's id.
    pub fn key(&self) -> String {
        match &self.identity {
            Identity::Token { id, .. } => id.to_string(),
            Identity::User => Self::user_key(&self.subject),
        }
    }

    /// The key of the end user of an id.
    pub fn user_key(user: &str) -> String {
        format!("user:{user}")
    }

    /// Whether the caller has the permission, by itself or through `admin`.
    pub fn has(&self, scope: Scope) -> bool {
        scope::permits(&self.scopes, scope)
    }
}

/// The tokens in a database.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    pool: &'a Pool,
}

impl<'a> Tokens<'a> {
    /// The tokens behind a pool. Making and revoking needs an administrator's pool.
    pub fn new(pool: &'a Pool) -> Self {
        Self { pool }
    }

    /// Makes a token and returns it with its text, which exists nowhere else.
    ///
    /// Fails as `invalid_input`, or as the conflict `token_name_taken` while a token of that name works; the name of
    /// an expired one is free.
    pub async fn create(&self, new: NewToken, now: DateTime<Utc>) -> Result<(Token, Secret)> {
        let now = to_micros(now);
        check(&new, now)?;
        let (id, secret_hash, secret) = secret::generate()?;
        let token = Token {
            id,
            subject: new.subject.unwrap_or_else(|| new.name.clone()),
            name: new.name,
            scopes: new.scopes,
            created_at: now,
            created_by: new.created_by,
            expires_at: new.expires_at.map(to_micros),
            rate_tier: new.rate_tier,
            last_used_at: None,
            rotated_at: None,
            previous_until: None,
            previous_used_at: None,
            revoked_at: None,
        };
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        db::execute(&tx, &queries::RETIRE_EXPIRED, &[&token.name, &now])
            .await
            .map_err(refused)?;
        db::execute(
            &tx,
            &queries::INSERT,
            &[
                &token.id,
                &token.name,
                &token.subject,
                &secret_hash.as_slice(),
                &scopes,
                &token.created_at,
                &token.created_by,
                &token.expires_at,
                &token.rate_tier,
            ],
        )
        .await
        .map_err(refused)?;
        tx.commit().await?;
        Ok((token, secret))
    }

    /// All tokens, those that work first, by name.
    pub async fn list(&self) -> Result<Vec<Token>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::LIST, &[]).await?;
        Ok(rows.iter().map(token_from).collect())
    }

    /// Revokes the tokens whose end has passed at `now`, which are refused already: their names are free from then on. Gives
    /// how many; who asked for it, and which they were, is in the audit log.
    pub async fn end_expired(&self, now: DateTime<Utc>, actor: &str) -> Result<u64> {
        let connection = self.pool.get().await?;
        let row = db::query_one(&connection, &queries::END_EXPIRED, &[&now, &actor]).await?;
        let ended: i64 = row.try_get("ended")?;
        Ok(u64::try_from(ended).unwrap_or_default())
    }

    /// Revokes a token by its id, or by the name of one that is not revoked yet. Revoking an id again changes nothing.
    ///
    /// Fails as `token_not_found`.
    pub async fn revoke(&self, name_or_id: &str, now: DateTime<Utc>) -> Result<Token> {
        let now = to_micros(now);
        if name_or_id.contains('\0') {
            return Err(not_found());
        }
        let connection = self.pool.get().await?;
        // A name cannot look like an id: `check` refuses it.
        let found = match Uuid::try_parse(name_or_id) {
            Ok(id) => db::query_opt(&connection, &queries::REVOKE_ID, &[&id, &now]).await,
            Err(_) => db::query_opt(&connection, &queries::REVOKE_NAME, &[&name_or_id, &now]).await,
        };
        let row = found.map_err(refused)?;
        row.as_ref().map(token_from).ok_or_else(not_found)
    }
}

fn check(new: &NewToken, now: DateTime<Utc>) -> Result<()> {
    let mut errors = Vec::new();
    let texts = [
        ("name", Some(&new.name)),
        ("subject", new.subject.as_ref()),
        ("created_by", Some(&new.created_by)),
    ];
    for (field, text) in texts
        .into_iter()
        .filter_map(|(field, text)| Some((field, text?)))
    {
        let length = text.chars().count();
        if length == 0 || length > MAX_TEXT {
            errors.push(FieldError::new(
                field,
                format!("must have 1 to {MAX_TEXT} characters"),
            ));
        } else if text.trim() != text || text.chars().any(char::is_control) {
            errors.push(FieldError::new(
                field,
                "must not begin or end with a space or contain control characters",
            ));
        }
    }
    if Uuid::try_parse(&new.name).is_ok() {
        errors.push(FieldError::new(
            "name",
            "must not look like an id: use a word",
        ));
    }
    if new.rate_tier.as_deref().is_some_and(|tier| !is_tier(tier)) {
        errors.push(FieldError::new(
            "tier",
            format!("must have 1 to {MAX_TIER} characters of a to z, 0 to 9, _ and -"),
        ));
    }
    if new.scopes.is_empty() {
        errors.push(FieldError::new("scopes", "name at least one scope"));
    }
    if new.expires_at.is_some_and(|expires_at| expires_at <= now) {
        errors.push(FieldError::new("expires_at", "must lie in the future"));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::fields(errors))
    }
}

/// Whether a text can name a tier of rate limits.
pub fn is_tier(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=MAX_TIER).contains(&text.len()) && text.bytes().all(plain)
}

fn not_found() -> Error {
    Error::not_found(
        "token_not_found",
        "no such token: `token list` shows names and ids",
    )
}

/// The refusals that an administrator can do something about.
fn refused(error: Error) -> Error {
    if error.constraint() == Some("service_tokens_name_is_unique") {
        return Error::conflict(
            "token_name_taken",
            "a token of this name works already: choose another name, or revoke that one first",
        );
    }
    if error.sql_state() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Error::conflict(
            "not_permitted",
            "this database role may not make, rotate or revoke tokens: set DATABASE_ADMIN_URL to one that may",
        );
    }
    error
}

fn token_from(row: &Row) -> Token {
    Token {
        id: row.get("id"),
        name: row.get("name"),
        subject: row.get("subject"),
        scopes: scopes_from(row),
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
        expires_at: row.get("expires_at"),
        rate_tier: row.get("rate_tier"),
        last_used_at: row.get("last_used_at"),
        rotated_at: row.get("rotated_at"),
        previous_until: row.get("previous_until"),
        previous_used_at: row.get("previous_used_at"),
        revoked_at: row.get("revoked_at"),
    }
}

/// The scopes of a row. One that a newer program wrote and this one does not know gives nothing here.
fn scopes_from(row: &Row) -> BTreeSet<Scope> {
    let names: Vec<&str> = row.get("scopes");
    names
        .into_iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}
