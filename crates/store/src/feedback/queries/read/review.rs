//! The SQL of the review queue.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Which flags count.
macro_rules! matching {
    ($row:literal) => {
        concat!(
            $row,
            ".flag_type is not null and ",
            $row,
            ".flagged_at >= $3 and ",
            $row,
            ".flagged_at < $4
             and case when ($1::text is null or ",
            $row,
            ".flag_type = $1) then true else false end"
        )
    };
}

/// A page of flagged insights, those with the most flags first, among equals the latest flagged; and how many there are.
/// Only the flagged entries are read, from their own index, which has all that is counted.
pub const FLAGGED: Statement = Statement {
    name: "feedback.flagged",
    sql: concat!(
        "with flagged as (
             select f.insight_id, count(*) filter (where f.flag_type = 'inaccurate') as inaccurate,
                    count(*) filter (where f.flag_type = 'misleading') as misleading,
                    count(*) filter (where f.flag_type = 'spam') as spam,
                    count(*) filter (where f.flag_type = 'inappropriate') as inappropriate,
                    count(*) filter (where f.flag_type = 'other') as other, count(*) as total_flags,
                    min(f.flagged_at) as first_flagged_at, max(f.flagged_at) as last_flagged_at
             from insight_feedback f
             where case when ($2::text is null or f.insight_id = $2) then true else false end and ",
        matching!("f"),
        " group by f.insight_id),
         page as (
             select * from flagged
             where (total_flags, last_flagged_at) < ($5, $6)
                or (total_flags = $5 and last_flagged_at = $6 and insight_id > $7)
             order by total_flags desc, last_flagged_at desc, insight_id limit $8 offset $9)
         select page.insight_id, page.inaccurate, page.misleading, page.spam, page.inappropriate, page.other, page.total_flags,
                page.first_flagged_at, page.last_flagged_at, latest.flag_types, latest.flag_reasons, latest.flagged_ats,
                latest.user_ids, stats.ratings, stats.rating_sum, counted.total
         from (select count(*) as total from flagged) counted
         left join page on true
         left join lateral (
             select array_agg(r.flag_type order by r.flagged_at desc, r.id desc) as flag_types,
                    array_agg(r.flag_reason order by r.flagged_at desc, r.id desc) as flag_reasons,
                    array_agg(r.flagged_at order by r.flagged_at desc, r.id desc) as flagged_ats,
                    array_agg(r.user_id order by r.flagged_at desc, r.id desc) as user_ids
             from (select f.id, f.flag_type, f.flag_reason, f.flagged_at, f.user_id from insight_feedback f
                   where f.insight_id = any(array[page.insight_id]) and f.flag_reason is not null and ",
        matching!("f"),
        " order by f.insight_id, f.flagged_at desc, f.id desc limit 5) r) latest on true
         left join (
             select insight_id, live[1] + live[2] + live[3] + live[4] + live[5] as ratings,
                    live[1] + 2 * live[2] + 3 * live[3] + 4 * live[4] + 5 * live[5] as rating_sum
             from feedback_read_stats(array(select insight_id from page))) stats on stats.insight_id = page.insight_id
         order by page.total_flags desc, page.last_flagged_at desc, page.insight_id"
    ),
    params: &[
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
    ],
    columns: &[
        ("insight_id", Type::TEXT),
        ("inaccurate", Type::INT8),
        ("misleading", Type::INT8),
        ("spam", Type::INT8),
        ("inappropriate", Type::INT8),
        ("other", Type::INT8),
        ("total_flags", Type::INT8),
        ("first_flagged_at", Type::TIMESTAMPTZ),
        ("last_flagged_at", Type::TIMESTAMPTZ),
        ("flag_types", Type::TEXT_ARRAY),
        ("flag_reasons", Type::TEXT_ARRAY),
        ("flagged_ats", Type::TIMESTAMPTZ_ARRAY),
        ("user_ids", Type::TEXT_ARRAY),
        ("ratings", Type::INT8),
        ("rating_sum", Type::INT8),
        ("total", Type::INT8),
    ],
};
