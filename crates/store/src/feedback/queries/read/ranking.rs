//! The SQL of the ranking.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The sum of the ratings that a row counts.
macro_rules! rating_sum {
    () => {
        "(r.ratings_1 + 2 * r.ratings_2 + 3 * r.ratings_3 + 4 * r.ratings_4 + 5 * r.ratings_5)"
    };
}

/// The prior `$1` counted for `$2` ratings, and the ratings.
macro_rules! bayesian_mean {
    () => {
        concat!(
            "(($1::float8 * $2::float8 + ",
            rating_sum!(),
            ") / ($2 + r.total_ratings))"
        )
    };
}

/// A page of the insights with at least `$3` ratings after the position (`$4`, `$5`), `$6` rows after `$7`: those that are
/// folded, in the order of one score, with those whose counts have changed since, which are computed. Of the folded ones so
/// many more are read as have changed: so many at most are left out again.
macro_rules! top {
    ($score:expr, $after:expr) => {
        ranked!($score, $after, " desc")
    };
}

/// As [`top`], in this direction of the score.
macro_rules! ranked {
    ($score:expr, $after:expr, $direction:expr) => {
        concat!(
            "with changed as materialized (
                 select d.insight_id, sum(d.ratings_1) as ratings_1, sum(d.ratings_2) as ratings_2, sum(d.ratings_3) as ratings_3,
                        sum(d.ratings_4) as ratings_4, sum(d.ratings_5) as ratings_5
                 from feedback_deltas d where d.x >= ", folded_below!("stats_below"), " group by d.insight_id),
             exact as materialized (
                 select *, ratings_1 + ratings_2 + ratings_3 + ratings_4 + ratings_5 as total_ratings,
                        feedback_lower_bound(ratings_1, ratings_2, ratings_3, ratings_4, ratings_5) as lower_bound
                 from (select c.insight_id, c.ratings_1 + coalesce(s.ratings_1, 0) as ratings_1,
                              c.ratings_2 + coalesce(s.ratings_2, 0) as ratings_2,
                              c.ratings_3 + coalesce(s.ratings_3, 0) as ratings_3,
                              c.ratings_4 + coalesce(s.ratings_4, 0) as ratings_4,
                              c.ratings_5 + coalesce(s.ratings_5, 0) as ratings_5
                       from changed c
                       left join lateral (select * from feedback_stats f where f.insight_id = c.insight_id limit 1) s on true) as summed)
             select * from (
                 select folded.* from (
                     select r.insight_id, r.total_ratings, ", rating_sum!(), " as rating_sum, ",
                            bayesian_mean!(), " as bayesian_mean, r.lower_bound, ", $score, " as score
                     from feedback_stats r
                     where r.total_ratings > 0 and r.total_ratings >= $3 and ", $after, "
                     order by ", $score, $direction, ", r.insight_id
                     limit $6::int8 + $7::int8 + (select count(*) from changed)) as folded
                 where not exists (select from changed c where c.insight_id = folded.insight_id)
                 union all
                 select r.insight_id, r.total_ratings, ", rating_sum!(), " as rating_sum, ",
                        bayesian_mean!(), " as bayesian_mean, r.lower_bound, ", $score, " as score
                 from exact r
                 where r.total_ratings > 0 and r.total_ratings >= $3 and ", $after, ") as ranked
             order by score", $direction, ", insight_id limit $6::int8 offset $7::int8"
        )
    };
}

const PARAMS: &[Type] = &[
    Type::FLOAT8,
    Type::FLOAT8,
    Type::INT8,
    Type::FLOAT8,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
];

const COLUMNS: &[(&str, Type)] = &[
    ("insight_id", Type::TEXT),
    ("total_ratings", Type::INT8),
    ("rating_sum", Type::INT8),
    ("bayesian_mean", Type::FLOAT8),
    ("lower_bound", Type::FLOAT8),
    ("score", Type::FLOAT8),
];

/// After the position. Before the first page there is nothing to compare.
macro_rules! after {
    ($score:expr) => {
        concat!(
            $score,
            " <= $4 and (",
            $score,
            " < $4 or r.insight_id > $5)"
        )
    };
}

/// Insights by the mean drawn towards the prior. No index can hold it, as the prior is a setting: all are read.
pub const TOP_BY_BAYESIAN_MEAN: Statement = Statement {
    name: "feedback.top_by_bayesian_mean",
    sql: top!(
        bayesian_mean!(),
        concat!(
            "($4::float8 = 'infinity' or ",
            after!(bayesian_mean!()),
            ")"
        )
    ),
    params: PARAMS,
    columns: COLUMNS,
};

/// Insights by the lower bound, from its index.
pub const TOP_BY_LOWER_BOUND: Statement = Statement {
    name: "feedback.top_by_lower_bound",
    sql: top!("r.lower_bound", after!("r.lower_bound")),
    params: PARAMS,
    columns: COLUMNS,
};

/// The other end of the ranking by the mean drawn towards the prior, from its beginning.
pub const BOTTOM_BY_BAYESIAN_MEAN: Statement = Statement {
    name: "feedback.bottom_by_bayesian_mean",
    sql: ranked!(
        bayesian_mean!(),
        "$4::float8 is not null and $5::text is not null",
        ""
    ),
    params: PARAMS,
    columns: COLUMNS,
};
