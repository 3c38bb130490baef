//! The slice's SQL.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Every statement of the slice.
pub const ALL: &[&Statement] = &[
    &INSERT,
    &RETIRE_EXPIRED,
    &FIND,
    &LIST,
    &REVOKE_ID,
    &REVOKE_NAME,
    &TOUCH,
    &TOUCH_PREVIOUS,
    &LOCK_ID,
    &LOCK_NAME,
    &ROTATE,
    &END_EXPIRED,
];

const TOKEN: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("name", Type::TEXT),
    ("subject", Type::TEXT),
    ("scopes", Type::TEXT_ARRAY),
    ("rate_tier", Type::TEXT),
    ("created_at", Type::TIMESTAMPTZ),
    ("created_by", Type::TEXT),
    ("expires_at", Type::TIMESTAMPTZ),
    ("last_used_at", Type::TIMESTAMPTZ),
    ("rotated_at", Type::TIMESTAMPTZ),
    ("previous_until", Type::TIMESTAMPTZ),
    ("previous_used_at", Type::TIMESTAMPTZ),
    ("revoked_at", Type::TIMESTAMPTZ),
];

pub(super) const INSERT: Statement = Statement {
    name: "token.insert",
    sql: "insert into service_tokens (id, name, subject, secret_hash, scopes, created_at, created_by, expires_at, rate_tier)
          values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::BYTEA,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[],
};

/// An expired token gives its name up to a new one.
pub(super) const RETIRE_EXPIRED: Statement = Statement {
    name: "token.retire_expired",
    sql: "update service_tokens set revoked_at = $2
          where name = $1 and revoked_at is null and expires_at <= $2",
    params: &[Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[],
};

pub(super) const FIND: Statement = Statement {
    name: "token.find",
    sql: "select name, subject, scopes, rate_tier, secret_hash, previous_hash, previous_until, expires_at, last_used_at,
                 previous_used_at, revoked_at
          from service_tokens where id = $1",
    params: &[Type::UUID],
    columns: &[
        ("name", Type::TEXT),
        ("subject", Type::TEXT),
        ("scopes", Type::TEXT_ARRAY),
        ("rate_tier", Type::TEXT),
        ("secret_hash", Type::BYTEA),
        ("previous_hash", Type::BYTEA),
        ("previous_until", Type::TIMESTAMPTZ),
        ("expires_at", Type::TIMESTAMPTZ),
        ("last_used_at", Type::TIMESTAMPTZ),
        ("previous_used_at", Type::TIMESTAMPTZ),
        ("revoked_at", Type::TIMESTAMPTZ),
    ],
};

pub(super) const LIST: Statement = Statement {
    name: "token.list",
    sql: "select id, name, subject, scopes, rate_tier, created_at, created_by, expires_at, last_used_at, rotated_at, previous_until,
                 previous_used_at, revoked_at
          from service_tokens order by revoked_at is not null, name, created_at, id",
    params: &[],
    columns: TOKEN,
};

/// Revoking again keeps the first time.
pub(super) const REVOKE_ID: Statement = Statement {
    name: "token.revoke_id",
    sql: "update service_tokens set revoked_at = coalesce(revoked_at, $2) where id = $1
          returning id, name, subject, scopes, rate_tier, created_at, created_by, expires_at, last_used_at, rotated_at, previous_until,
                 previous_used_at, revoked_at",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: TOKEN,
};

pub(super) const REVOKE_NAME: Statement = Statement {
    name: "token.revoke_name",
    sql: "update service_tokens set revoked_at = $2 where name = $1 and revoked_at is null
          returning id, name, subject, scopes, rate_tier, created_at, created_by, expires_at, last_used_at, rotated_at, previous_until,
                 previous_used_at, revoked_at",
    params: &[Type::TEXT, Type::TIMESTAMPTZ],
    columns: TOKEN,
};

pub(super) const TOUCH: Statement = Statement {
    name: "token.touch",
    sql: "update service_tokens set last_used_at = $2
          where id = $1 and (last_used_at is null or last_used_at <= $3)",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[],
};

/// The use of a replaced secret. Where it was replaced once more meanwhile, it is that one no longer.
pub(super) const TOUCH_PREVIOUS: Statement = Statement {
    name: "token.touch_previous",
    sql: "update service_tokens set last_used_at = greatest(last_used_at, $2), previous_used_at = $2
          where id = $1 and (previous_used_at is null or previous_used_at <= $3) and previous_hash = $4",
    params: &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::BYTEA,
    ],
    columns: &[],
};

pub(super) const LOCK_ID: Statement = Statement {
    name: "token.lock_id",
    sql: "select id, name, subject, scopes, rate_tier, created_at, created_by, expires_at, last_used_at, rotated_at, previous_until,
                 previous_used_at, revoked_at
          from service_tokens where id = $1 for update",
    params: &[Type::UUID],
    columns: TOKEN,
};

pub(super) const LOCK_NAME: Statement = Statement {
    name: "token.lock_name",
    sql: "select id, name, subject, scopes, rate_tier, created_at, created_by, expires_at, last_used_at, rotated_at, previous_until,
                 previous_used_at, revoked_at
          from service_tokens where name = $1 and revoked_at is null for update",
    params: &[Type::TEXT],
    columns: TOKEN,
};

/// The secret that it had becomes the previous one, of which no use is known yet.
pub(super) const ROTATE: Statement = Statement {
    name: "token.rotate",
    sql: "update service_tokens
          set previous_hash = secret_hash, secret_hash = $2, rotated_at = $3, previous_until = $4, previous_used_at = null
          where id = $1
          returning id, name, subject, scopes, rate_tier, created_at, created_by, expires_at, last_used_at, rotated_at, previous_until,
                 previous_used_at, revoked_at",
    params: &[
        Type::UUID,
        Type::BYTEA,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: TOKEN,
};

/// Revokes tokens whose end has passed, and says so in the audit log.
pub(super) const END_EXPIRED: Statement = Statement {
    name: "token.end_expired",
    sql: "select token_end_expired($1, $2) as ended",
    params: &[Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[("ended", Type::INT8)],
};
