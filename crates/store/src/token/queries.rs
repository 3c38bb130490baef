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
    &END_EXPIRED,
];

const TOKEN: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("name", Type::TEXT),
    ("subject", Type::TEXT),
    ("scopes", Type::TEXT_ARRAY),
    ("created_at", Type::TIMESTAMPTZ),
    ("created_by", Type::TEXT),
    ("expires_at", Type::TIMESTAMPTZ),
    ("last_used_at", Type::TIMESTAMPTZ),
    ("revoked_at", Type::TIMESTAMPTZ),
];

pub(super) const INSERT: Statement = Statement {
    name: "token.insert",
    sql: "insert into service_tokens (id, name, subject, secret_hash, scopes, created_at, created_by, expires_at)
          values ($1, $2, $3, $4, $5, $6, $7, $8)",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::BYTEA,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TIMESTAMPTZ,
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
    sql:
        "select name, subject, scopes, rate_tier, secret_hash, expires_at, last_used_at, revoked_at
          from service_tokens where id = $1",
    params: &[Type::UUID],
    columns: &[
        ("name", Type::TEXT),
        ("subject", Type::TEXT),
        ("scopes", Type::TEXT_ARRAY),
        ("rate_tier", Type::TEXT),
        ("secret_hash", Type::BYTEA),
        ("expires_at", Type::TIMESTAMPTZ),
        ("last_used_at", Type::TIMESTAMPTZ),
        ("revoked_at", Type::TIMESTAMPTZ),
    ],
};

pub(super) const LIST: Statement = Statement {
    name: "token.list",
    sql: "select id, name, subject, scopes, created_at, created_by, expires_at, last_used_at, revoked_at
          from service_tokens order by revoked_at is not null, name, created_at, id",
    params: &[],
    columns: TOKEN,
};

/// Revoking again keeps the first time.
pub(super) const REVOKE_ID: Statement = Statement {
    name: "token.revoke_id",
    sql: "update service_tokens set revoked_at = coalesce(revoked_at, $2) where id = $1
          returning id, name, subject, scopes, created_at, created_by, expires_at, last_used_at, revoked_at",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: TOKEN,
};

pub(super) const REVOKE_NAME: Statement = Statement {
    name: "token.revoke_name",
    sql: "update service_tokens set revoked_at = $2 where name = $1 and revoked_at is null
          returning id, name, subject, scopes, created_at, created_by, expires_at, last_used_at, revoked_at",
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

/// Revokes tokens whose end has passed, and says so in the audit log.
pub(super) const END_EXPIRED: Statement = Statement {
    name: "token.end_expired",
    sql: "select token_end_expired($1, $2) as ended",
    params: &[Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[("ended", Type::INT8)],
};
