//! The SQL of the comments on an insight, and of what a user did.

use tokio_postgres::types::Type;

use super::FOUND_COLUMNS;
use crate::db::Statement;

/// A page of the entries of an insight with a comment, the last written first, and how many there are: counted by the
/// statistics, and so not by reading them.
pub const COMMENTS: Statement = Statement {
    name: "feedback.comments",
    sql: concat!(
        "select ",
        entry_columns!(),
        ", counted.total
         from (select * from insight_feedback e
               where e.insight_id = any(array[$1]) and e.comment is not null and (e.commented_at, e.id) < ($2, $3)
               order by e.insight_id, e.commented_at desc, e.id desc limit $4 offset $5) e
         right join (select live[6] as total from feedback_read_stats(array[$1])) counted on true
         order by e.commented_at desc, e.id desc"
    ),
    params: &[
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::UUID,
        Type::INT8,
        Type::INT8,
    ],
    columns: FOUND_COLUMNS,
};

/// A page of what a user did, the latest first.
pub const HISTORY: Statement = Statement {
    name: "feedback.history",
    sql: "select h.id, h.insight_id, h.user_id, h.fact, h.rating, h.comment, h.flag_type, h.flag_reason, h.occurred_at
          from feedback_history h
          where h.user_id = any(array[$1]) and h.id < $3
            and case when $2::text is null or h.insight_id = $2 then true else false end
          order by h.user_id desc, h.id desc limit $4 offset $5",
    params: &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::INT8],
    columns: &[
        ("id", Type::INT8),
        ("insight_id", Type::TEXT),
        ("user_id", Type::TEXT),
        ("fact", Type::TEXT),
        ("rating", Type::INT2),
        ("comment", Type::TEXT),
        ("flag_type", Type::TEXT),
        ("flag_reason", Type::TEXT),
        ("occurred_at", Type::TIMESTAMPTZ),
    ],
};
