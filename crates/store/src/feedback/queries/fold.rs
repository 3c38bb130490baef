//! The SQL of folding.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Takes the fold unless someone else has it. `here` is false when the bounds were set on another cluster.
pub const LOCK_FOLD: Statement = Statement {
    name: "feedback.lock_fold",
    sql: "select f.system_identifier = (select c.system_identifier from pg_control_system() c) as here
          from feedback_fold f for update of f skip locked",
    params: &[],
    columns: &[("here", Type::BOOL)],
};

/// Forgets bounds of another cluster, both at once: they share the identifier that says where they hold.
pub const RESET_FOLD: Statement = Statement {
    name: "feedback.reset_fold",
    sql: "update feedback_fold
          set system_identifier = (select c.system_identifier from pg_control_system() c), stats_below = '0', days_below = '0'",
    params: &[],
    columns: &[],
};

/// Moves at most $1 visible deltas into the folded counts; with fewer, all that were visible are moved, and the bound is
/// the snapshot's. The fold must have been taken in an earlier statement.
pub const FOLD_STATS: Statement = Statement {
    name: "feedback.fold_stats",
    sql: "with gone as (
              delete from feedback_deltas d
              where d.ctid = any (array(
                  select o.ctid from feedback_deltas o
                  where o.x >= (select stats_below from feedback_fold) order by o.x limit $1))
              returning d.*),
          sums as (
              select insight_id, sum(ratings_1) as ratings_1, sum(ratings_2) as ratings_2, sum(ratings_3) as ratings_3,
                     sum(ratings_4) as ratings_4, sum(ratings_5) as ratings_5, sum(comments) as comments,
                     sum(flags_inaccurate) as flags_inaccurate, sum(flags_misleading) as flags_misleading,
                     sum(flags_spam) as flags_spam, sum(flags_inappropriate) as flags_inappropriate,
                     sum(flags_other) as flags_other
              from gone group by insight_id),
          folded as (
              insert into feedback_stats as s (insight_id, ratings_1, ratings_2, ratings_3, ratings_4, ratings_5, comments,
                                               flags_inaccurate, flags_misleading, flags_spam, flags_inappropriate, flags_other)
              select insight_id, ratings_1, ratings_2, ratings_3, ratings_4, ratings_5, comments,
                     flags_inaccurate, flags_misleading, flags_spam, flags_inappropriate, flags_other
              from sums order by insight_id
              on conflict (insight_id) do update set
                  ratings_1 = s.ratings_1 + excluded.ratings_1, ratings_2 = s.ratings_2 + excluded.ratings_2,
                  ratings_3 = s.ratings_3 + excluded.ratings_3, ratings_4 = s.ratings_4 + excluded.ratings_4,
                  ratings_5 = s.ratings_5 + excluded.ratings_5, comments = s.comments + excluded.comments,
                  flags_inaccurate = s.flags_inaccurate + excluded.flags_inaccurate,
                  flags_misleading = s.flags_misleading + excluded.flags_misleading,
                  flags_spam = s.flags_spam + excluded.flags_spam,
                  flags_inappropriate = s.flags_inappropriate + excluded.flags_inappropriate,
                  flags_other = s.flags_other + excluded.flags_other),
          bounded as (
              update feedback_fold set stats_below = pg_snapshot_xmin(pg_current_snapshot())
              where (select count(*) from gone) < $1)
          select count(*) as folded from gone",
    params: &[Type::INT8],
    columns: &[("folded", Type::INT8)],
};

/// The same for what users did on each day.
pub const FOLD_DAYS: Statement = Statement {
    name: "feedback.fold_days",
    sql: "with gone as (
              delete from feedback_day_deltas d
              where d.ctid = any (array(
                  select o.ctid from feedback_day_deltas o
                  where o.x >= (select days_below from feedback_fold) order by o.x limit $1))
              returning d.*),
          folded as (
              insert into feedback_days as s (insight_id, day, ratings, rating_sum, comments, flags, withdrawals)
              select insight_id, day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals)
              from gone group by insight_id, day order by insight_id, day
              on conflict (insight_id, day) do update set
                  ratings = s.ratings + excluded.ratings, rating_sum = s.rating_sum + excluded.rating_sum,
                  comments = s.comments + excluded.comments, flags = s.flags + excluded.flags,
                  withdrawals = s.withdrawals + excluded.withdrawals),
          folded_overall as (
              insert into feedback_overall_days as s (day, ratings, rating_sum, comments, flags, withdrawals)
              select day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals)
              from gone group by day order by day
              on conflict (day) do update set
                  ratings = s.ratings + excluded.ratings, rating_sum = s.rating_sum + excluded.rating_sum,
                  comments = s.comments + excluded.comments, flags = s.flags + excluded.flags,
                  withdrawals = s.withdrawals + excluded.withdrawals),
          bounded as (
              update feedback_fold set days_below = pg_snapshot_xmin(pg_current_snapshot())
              where (select count(*) from gone) < $1)
          select count(*) as folded from gone",
    params: &[Type::INT8],
    columns: &[("folded", Type::INT8)],
};
