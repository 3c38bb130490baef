//! The SQL of searches: one statement for each condition that a search can begin at.

use tokio_postgres::types::Type;

use super::FOUND_COLUMNS;
use crate::db::Statement;

/// Every condition, each of which may be absent.
macro_rules! conditions {
    () => {
        "case when ($8::text is null or e.user_id = $8) and ($9::text is null or e.insight_id = $9)
              and ($10::int2 is null or e.rating = $10) and (not $11::bool or e.flag_type is not null)
              and ($12::text is null or e.flag_type = $12) and ($13::bool is null or (e.comment is not null) = $13)
         then true else false end"
    };
}

/// A page of the entries of one leading condition, and how many entries match in all: one statement, one snapshot.
///
/// From `$1` on and before `$2`, the page before the position (`$3`, `$4`), `$5` rows after `$6`. Where the leading
/// condition is all there is (`$7`), they are counted in its index alone.
macro_rules! search {
    ($table:literal, $condition:literal, $order:literal) => {
        concat!(
            "select ",
            entry_columns!(),
            ", counted.total
             from (select case when $7::bool then (select count(*) from ",
            $table,
            " e where ",
            $condition,
            " and e.updated_at >= $1 and e.updated_at < $2)
                          else (select count(*) from ",
            $table,
            " e where ",
            $condition,
            " and e.updated_at >= $1 and e.updated_at < $2 and ",
            conditions!(),
            ") end as total) counted
             left join (select * from ",
            $table,
            " e where ",
            $condition,
            " and e.updated_at >= $1 and (e.updated_at, e.id) < ($3, $4) and ",
            conditions!(),
            " order by ",
            $order,
            "e.updated_at desc, e.id desc limit $5 offset $6) e on true
             order by e.updated_at desc, e.id desc"
        )
    };
}

macro_rules! search_statement {
    ($(#[$doc:meta])* $statement:ident, $name:literal, $sql:expr) => {
        $(#[$doc])*
        pub const $statement: Statement = Statement {
            name: $name,
            sql: $sql,
            params: &[
                Type::TIMESTAMPTZ,
                Type::TIMESTAMPTZ,
                Type::TIMESTAMPTZ,
                Type::UUID,
                Type::INT8,
                Type::INT8,
                Type::BOOL,
                Type::TEXT,
                Type::TEXT,
                Type::INT2,
                Type::BOOL,
                Type::TEXT,
                Type::BOOL,
            ],
            columns: FOUND_COLUMNS,
        };
    };
}

search_statement!(
    /// The one entry of a user on an insight; looked up first, as otherwise an index of either alone may seem as good.
    SEARCH_ONE,
    "feedback.search_one",
    search!(
        "(select * from insight_feedback one where one.insight_id = any(array[$9]) and one.user_id between $8 and $8
          order by one.insight_id, one.user_id limit 1)",
        "true",
        ""
    )
);
search_statement!(
    /// Entries of a user.
    SEARCH_USER,
    "feedback.search_user",
    search!("insight_feedback", "e.user_id = any(array[$8])", "e.user_id, ")
);
search_statement!(
    /// Flagged entries on an insight: as few as there are, they are sorted. They are looked up first, too.
    SEARCH_INSIGHT_FLAGGED,
    "feedback.search_insight_flagged",
    search!(
        "(select * from insight_feedback flagged where flagged.insight_id = any(array[$9]) and flagged.flag_type is not null
          order by flagged.insight_id, flagged.flagged_at desc, flagged.id desc offset 0)",
        "true",
        ""
    )
);
search_statement!(
    /// Entries on an insight with a comment.
    SEARCH_INSIGHT_COMMENTED,
    "feedback.search_insight_commented",
    search!(
        "insight_feedback",
        "e.insight_id = any(array[$9]) and e.comment is not null",
        "e.insight_id, "
    )
);
search_statement!(
    /// Entries on an insight with a rating.
    SEARCH_INSIGHT_RATING,
    "feedback.search_insight_rating",
    search!(
        "insight_feedback",
        "e.insight_id = any(array[$9]) and e.rating = $10",
        "e.insight_id, e.rating, "
    )
);
search_statement!(
    /// Entries on an insight.
    SEARCH_INSIGHT,
    "feedback.search_insight",
    search!("insight_feedback", "e.insight_id = any(array[$9])", "e.insight_id, ")
);
search_statement!(
    /// Entries with a flag of one type.
    SEARCH_FLAG_TYPE,
    "feedback.search_flag_type",
    search!("insight_feedback", "e.flag_type = any(array[$12])", "e.flag_type, ")
);
search_statement!(
    /// Entries with a flag.
    SEARCH_FLAGGED,
    "feedback.search_flagged",
    search!("insight_feedback", "e.flag_type is not null", "")
);
search_statement!(
    /// Entries with a comment.
    SEARCH_COMMENTED,
    "feedback.search_commented",
    search!("insight_feedback", "e.comment is not null", "")
);
search_statement!(
    /// Entries with a rating.
    SEARCH_RATING,
    "feedback.search_rating",
    search!("insight_feedback", "e.rating = any(array[$10::int2])", "e.rating, ")
);
search_statement!(
    /// Entries.
    SEARCH_TIME,
    "feedback.search_time",
    search!("insight_feedback", "true", "")
);
