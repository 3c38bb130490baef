//! The slice's SQL.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Every statement of the slice.
pub const ALL: &[&Statement] = &[&APPEND, &HEAD, &LIST, &DECLARE, &FETCH];

pub(super) const APPEND: Statement = Statement {
    name: "audit.append",
    sql: "select audit_append($1, $2, $3, $4, $5) as sequence",
    params: &[
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
    ],
    columns: &[("sequence", Type::INT8)],
};

pub(super) const HEAD: Statement = Statement {
    name: "audit.head",
    sql: "select sequence, hash from audit_head",
    params: &[],
    columns: &[("sequence", Type::INT8), ("hash", Type::BYTEA)],
};

/// The newest entries that match, below a number. Planned for the values given: where a condition is absent, nothing of it
/// is left in the plan.
pub(super) const LIST: Statement = Statement {
    name: "audit.list",
    sql: "select sequence, case when isfinite(at) then (extract(epoch from at) * 1000000)::bigint end as at_microseconds,
                 actor, database_role, action, subject, details, previous_hash, hash
          from audit_log
          where ($1::text is null or action = $1) and ($2::text is null or starts_with(subject, $2))
            and ($3::text is null or actor = $3) and ($4::timestamptz is null or at >= $4)
            and ($5::timestamptz is null or at < $5) and ($6::bigint is null or sequence < $6)
          order by sequence desc limit $7",
    params: &[
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::INT8,
    ],
    columns: &[
        ("sequence", Type::INT8),
        ("at_microseconds", Type::INT8),
        ("actor", Type::TEXT),
        ("database_role", Type::TEXT),
        ("action", Type::TEXT),
        ("subject", Type::TEXT),
        ("details", Type::TEXT),
        ("previous_hash", Type::BYTEA),
        ("hash", Type::BYTEA),
    ],
};

/// Begins to read the whole log, in the order of its numbers. What constraints rule out is read all the same: whoever
/// tampered with the log may have dropped them first.
pub(super) const DECLARE: Statement = Statement {
    name: "audit.declare_entries",
    sql: "declare audit_entries no scroll cursor for
          select coalesce(sequence, 0) as sequence,
                 case when isfinite(at) then (extract(epoch from at) * 1000000)::bigint end as at_microseconds,
                 coalesce(actor, '') as actor, coalesce(database_role, '') as database_role, coalesce(action, '') as action,
                 coalesce(subject, '') as subject, coalesce(details, '') as details,
                 coalesce(previous_hash, '') as previous_hash, coalesce(hash, '') as hash
          from audit_log order by audit_log.sequence",
    params: &[],
    columns: &[],
};

/// The next entries: at most 13 MB of them. Its columns are the cursor's; without the cursor there are none.
pub(super) const FETCH: Statement = Statement {
    name: "audit.fetch_entries",
    sql: "fetch forward 200 from audit_entries",
    params: &[],
    columns: &[],
};
