//! The SQL of the export: a cursor that outlives its statement.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Takes one of the places for an export, unless another session has it. It is given back with the connection.
pub const LOCK_EXPORT: Statement = Statement {
    name: "feedback.lock_export",
    sql: "select pg_try_advisory_lock($1) as locked",
    params: &[Type::INT8],
    columns: &[("locked", Type::BOOL)],
};

/// Settings of the export's session: how long its one long statement may take, and that all of its rows are wanted.
pub const SET_EXPORT: Statement = Statement {
    name: "feedback.set_export",
    sql: "select from (select set_config('statement_timeout', $1, false), set_config('cursor_tuple_fraction', '1', false),
                 set_config('client_connection_check_interval', '1s', false)) as done",
    params: &[Type::TEXT],
    columns: &[],
};

/// All entries that match, the last changed first, at most `$9`. It is planned for the values given: where a condition is
/// absent, nothing of it is left in the plan.
pub const DECLARE_EXPORT: Statement = Statement {
    name: "feedback.declare_export",
    sql: concat!(
        "declare feedback_export scroll cursor with hold for select ",
        entry_columns!(),
        " from insight_feedback e
         where ($1::text is null or e.user_id = $1) and ($2::text is null or e.insight_id = $2)
           and ($3::timestamptz is null or e.updated_at >= $3) and ($4::timestamptz is null or e.updated_at < $4)
           and ($5::int2 is null or e.rating = $5) and (not $6::bool or e.flag_type is not null)
           and ($7::text is null or e.flag_type = $7) and ($8::bool is null or (e.comment is not null) = $8)
         order by e.updated_at desc, e.id desc limit $9"
    ),
    params: &[
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT2,
        Type::BOOL,
        Type::TEXT,
        Type::BOOL,
        Type::INT8,
    ],
    columns: &[],
};

/// Goes to the end; the rows passed are counted.
pub const COUNT_EXPORT: Statement = Statement {
    name: "feedback.count_export",
    sql: "move forward all in feedback_export",
    params: &[],
    columns: &[],
};

/// Goes back to before the first row.
pub const REWIND_EXPORT: Statement = Statement {
    name: "feedback.rewind_export",
    sql: "move absolute 0 in feedback_export",
    params: &[],
    columns: &[],
};

/// The next rows. Its columns are the cursor's, which are an entry's; without the cursor there are none.
pub const FETCH_EXPORT: Statement = Statement {
    name: "feedback.fetch_export",
    sql: "fetch forward 1000 from feedback_export",
    params: &[],
    columns: &[],
};
