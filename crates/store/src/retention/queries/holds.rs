//! The SQL of legal holds.

use tokio_postgres::types::Type;

use super::DONE;
use crate::db::Statement;

/// Places a hold; its last parameter is what the audit log calls it.
pub const PLACE_HOLD: Statement = Statement {
    name: "retention.place_hold",
    sql: "select retention_place_hold(row($1::uuid, $2::text, $3::text, $4::date, $5::date, $6::text, $7::text, $8::text, $9::text,
                                          $10::timestamptz, $11::timestamptz)::legal_holds, $12, $9)::text as done",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::DATE,
        Type::DATE,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: DONE,
};

/// Releases a hold.
pub const RELEASE_HOLD: Statement = Statement {
    name: "retention.release_hold",
    sql: "select retention_release_hold($1, $2, $3, $4, $5) as released",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[("released", Type::BOOL)],
};

/// Every hold.
pub const HOLDS: Statement = Statement {
    name: "retention.holds",
    sql: "select id, scope, dataset, first_day, last_day, user_id, insight_id, reason, placed_by, placed_at, expires_at
          from legal_holds order by placed_at desc, id desc",
    params: &[],
    columns: &[
        ("id", Type::UUID),
        ("scope", Type::TEXT),
        ("dataset", Type::TEXT),
        ("first_day", Type::DATE),
        ("last_day", Type::DATE),
        ("user_id", Type::TEXT),
        ("insight_id", Type::TEXT),
        ("reason", Type::TEXT),
        ("placed_by", Type::TEXT),
        ("placed_at", Type::TIMESTAMPTZ),
        ("expires_at", Type::TIMESTAMPTZ),
    ],
};
