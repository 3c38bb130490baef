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
    sql: "INSERT INTO service_tokens (id, name, subject, secret_hash, scopes, created_at, created_by, expires_at)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
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
    sql: "UPDATE service_tokens SET revoked_at = $2
          WHERE name = $1 AND revoked_at IS NULL AND expires_at <= $2",
    params: &[Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[],
};

pub(super) const FIND: Statement = Statement {
    name: "token.find",
    sql: "SELECT name, subject, scopes, secret_hash, expires_at, last_used_at, revoked_at
          FROM service_tokens WHERE id = $1",
    params: &[Type::UUID],
    columns: &[
        ("name", Type::TEXT),
        ("subject", Type::TEXT),
        ("scopes", Type::TEXT_ARRAY),
        ("secret_hash", Type::BYTEA),
        ("expires_at", Type::TIMESTAMPTZ),
        ("last_used_at", Type::TIMESTAMPTZ),
        ("revoked_at", Type::TIMESTAMPTZ),
    ],
};

pub(super) const LIST: Statement = Statement {
    name: "token.list",
    sql: "SELECT id, name, subject, scopes, created_at, created_by, expires_at, last_used_at, revoked_at
          FROM service_tokens ORDER BY revoked_at IS NOT NULL, name, created_at, id",
    params: &[],
    columns: TOKEN,
};

/// Revoking again keeps the first time.
pub(super) const REVOKE_ID: Statement = Statement {
    name: "token.revoke_id",
    sql: "UPDATE service_tokens SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1
          RETURNING id, name, subject, scopes, created_at, created_by, expires_at, last_used_at, revoked_at",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: TOKEN,
};

pub(super) const REVOKE_NAME: Statement = Statement {
    name: "token.revoke_name",
    sql: "UPDATE service_tokens SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL
          RETURNING id, name, subject, scopes, created_at, created_by, expires_at, last_used_at, revoked_at",
    params: &[Type::TEXT, Type::TIMESTAMPTZ],
    columns: TOKEN,
};

pub(super) const TOUCH: Statement = Statement {
    name: "token.touch",
    sql: "UPDATE service_tokens SET last_used_at = $2
          WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[],
};
