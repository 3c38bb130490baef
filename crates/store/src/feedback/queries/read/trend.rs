//! The SQL of the trend.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The days of `[$1, $2)` on which something was done: folded ones, and what came since.
macro_rules! trend {
    ($folded:literal, $open:literal) => {
        concat!(
            "select day, sum(ratings)::int8 as ratings, sum(rating_sum)::int8 as rating_sum, sum(comments)::int8 as comments,
                    sum(flags)::int8 as flags, sum(withdrawals)::int8 as withdrawals
             from (select day, ratings, rating_sum, comments, flags, withdrawals
                   from ", $folded, " day >= $1 and day < $2
                   union all
                   select day, ratings, rating_sum, comments, flags, withdrawals
                   from feedback_day_deltas where ", $open, " day >= $1 and day < $2 and x >= ",
            folded_below!("days_below"),
            ") as both_parts
             group by day order by day"
        )
    };
}

const COLUMNS: &[(&str, Type)] = &[
    ("day", Type::DATE),
    ("ratings", Type::INT8),
    ("rating_sum", Type::INT8),
    ("comments", Type::INT8),
    ("flags", Type::INT8),
    ("withdrawals", Type::INT8),
];

/// Of one insight.
pub const TREND_OF_INSIGHT: Statement = Statement {
    name: "feedback.trend_of_insight",
    sql: trend!(
        "feedback_days where insight_id = $3 and",
        "insight_id = $3 and"
    ),
    params: &[Type::DATE, Type::DATE, Type::TEXT],
    columns: COLUMNS,
};

/// Of all insights.
pub const TREND_OVERALL: Statement = Statement {
    name: "feedback.trend_overall",
    sql: trend!("feedback_overall_days where", ""),
    params: &[Type::DATE, Type::DATE],
    columns: COLUMNS,
};
