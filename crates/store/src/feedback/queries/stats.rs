//! The SQL of statistics: reading them, and comparing them with what they count.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Statistics of insights, in the order asked for, and the snapshot they were read in. The function is in migration 0005.
pub const READ_STATS: Statement = Statement {
    name: "feedback.read_stats",
    sql: "select insight_id, live, retired, open_deltas, pg_current_snapshot()::text as snapshot from feedback_read_stats($1)",
    params: &[Type::TEXT_ARRAY],
    columns: &[
        ("insight_id", Type::TEXT),
        ("live", Type::INT8_ARRAY),
        ("retired", Type::INT8_ARRAY),
        ("open_deltas", Type::INT8),
        ("snapshot", Type::TEXT),
    ],
};

/// Insights whose statistics, as a reader adds them up, are not those of their rows: at most $1.
///
/// One statement has one snapshot. The rows stand first, as TRUNCATE locks them first.
pub const DRIFT: Statement = Statement {
    name: "feedback.drift",
    sql: "with there as (
              select insight_id, array[
                  count(*) filter (where rating = 1), count(*) filter (where rating = 2), count(*) filter (where rating = 3),
                  count(*) filter (where rating = 4), count(*) filter (where rating = 5), count(comment),
                  count(*) filter (where flag_type = 'inaccurate'), count(*) filter (where flag_type = 'misleading'),
                  count(*) filter (where flag_type = 'spam'), count(*) filter (where flag_type = 'inappropriate'),
                  count(*) filter (where flag_type = 'other')] as counts
              from insight_feedback group by insight_id),
          counted as (
              select insight_id, array[
                  sum(ratings_1), sum(ratings_2), sum(ratings_3), sum(ratings_4), sum(ratings_5), sum(comments),
                  sum(flags_inaccurate), sum(flags_misleading), sum(flags_spam), sum(flags_inappropriate),
                  sum(flags_other)]::bigint[] as counts
              from (select insight_id, ratings_1, ratings_2, ratings_3, ratings_4, ratings_5, comments,
                           flags_inaccurate, flags_misleading, flags_spam, flags_inappropriate, flags_other
                    from feedback_stats
                    union all
                    select insight_id, ratings_1, ratings_2, ratings_3, ratings_4, ratings_5, comments,
                           flags_inaccurate, flags_misleading, flags_spam, flags_inappropriate, flags_other
                    from feedback_deltas
                    where x >= coalesce((select case when system_identifier = (select c.system_identifier from pg_control_system() c)
                                                     then stats_below end from feedback_fold), '0')) as folded_and_open
              group by insight_id),
          both_sides as (
              select insight_id, coalesce(c.counts, array_fill(0::bigint, array[11])) as counted,
                     coalesce(t.counts, array_fill(0::bigint, array[11])) as there
              from there t full join counted c using (insight_id))
          select insight_id, counted, there from both_sides where counted <> there order by insight_id limit $1",
    params: &[Type::INT8],
    columns: &[
        ("insight_id", Type::TEXT),
        ("counted", Type::INT8_ARRAY),
        ("there", Type::INT8_ARRAY),
    ],
};
