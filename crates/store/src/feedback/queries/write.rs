//! The SQL that writes feedback. History, counts and the cache's outbox are written by triggers.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The columns of [`super::ENTRY_COLUMNS`] and the writing transaction.
const WRITTEN_COLUMNS: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("insight_id", Type::TEXT),
    ("user_id", Type::TEXT),
    ("rating", Type::INT2),
    ("rated_at", Type::TIMESTAMPTZ),
    ("comment", Type::TEXT),
    ("commented_at", Type::TIMESTAMPTZ),
    ("flag_type", Type::TEXT),
    ("flag_reason", Type::TEXT),
    ("flagged_at", Type::TIMESTAMPTZ),
    ("created_at", Type::TIMESTAMPTZ),
    ("updated_at", Type::TIMESTAMPTZ),
    ("transaction", Type::TEXT),
];

macro_rules! written {
    () => {
        "returning f.id, f.insight_id, f.user_id, f.rating, f.rated_at, f.comment, f.commented_at, f.flag_type, f.flag_reason,
                    f.flagged_at, f.created_at, f.updated_at, pg_current_xact_id()::text as transaction"
    };
}

/// Facts of many users on many insights, each pair of them once: what is null stays as it was, a flag replaces its reason.
///
/// Each update has a later time than the one before, also when clocks go back: the row's times are then filled in here and
/// not by the trigger that serves psql. In one order, so that concurrent batches wait for each other and never deadlock;
/// the rows come back in it. `$8` is how long a row's lock is waited for; null: as long as the session does.
pub const WRITE: Statement = Statement {
    name: "feedback.write",
    sql: concat!(
        "insert into insight_feedback as f (insight_id, user_id, rating, rated_at, comment, commented_at, flag_type, flag_reason,
             flagged_at, created_at, updated_at)
         select insight_id, user_id, rating, case when rating is not null then at end,
                comment, case when comment is not null then at end,
                flag_type, flag_reason, case when flag_type is not null then at end, at, at
         from unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
              as change (insight_id, user_id, rating, comment, flag_type, flag_reason, at)
         cross join (select set_config('lock_timeout', coalesce($8, current_setting('lock_timeout')), true)) as patience
         order by insight_id collate \"C\", user_id collate \"C\"
         on conflict (insight_id, user_id) do update set
             rating = coalesce(excluded.rating, f.rating),
             rated_at = case when excluded.rating is null then f.rated_at
                             else greatest(excluded.updated_at, f.updated_at + interval '1 microsecond') end,
             comment = coalesce(excluded.comment, f.comment),
             commented_at = case when excluded.comment is null then f.commented_at
                                 else greatest(excluded.updated_at, f.updated_at + interval '1 microsecond') end,
             flag_type = coalesce(excluded.flag_type, f.flag_type),
             flag_reason = case when excluded.flag_type is null then f.flag_reason else excluded.flag_reason end,
             flagged_at = case when excluded.flag_type is null then f.flagged_at
                               else greatest(excluded.updated_at, f.updated_at + interval '1 microsecond') end,
             updated_at = greatest(excluded.updated_at, f.updated_at + interval '1 microsecond') ",
        written!()
    ),
    params: &[
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT2_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TEXT,
    ],
    columns: WRITTEN_COLUMNS,
};

/// Takes one fact back; no row where it is not there. A row without facts is removed by a trigger.
pub const WITHDRAW: Statement = Statement {
    name: "feedback.withdraw",
    sql: concat!(
        "update insight_feedback f set
             rating = case when $3 = 'rating' then null else f.rating end,
             rated_at = case when $3 = 'rating' then null else f.rated_at end,
             comment = case when $3 = 'comment' then null else f.comment end,
             commented_at = case when $3 = 'comment' then null else f.commented_at end,
             flag_type = case when $3 = 'flag' then null else f.flag_type end,
             flag_reason = case when $3 = 'flag' then null else f.flag_reason end,
             flagged_at = case when $3 = 'flag' then null else f.flagged_at end,
             updated_at = greatest($4, f.updated_at + interval '1 microsecond')
         where f.insight_id = $1 and f.user_id = $2
               and case $3 when 'rating' then f.rating is not null when 'comment' then f.comment is not null
                           else f.flag_type is not null end ",
        written!()
    ),
    params: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ],
    columns: WRITTEN_COLUMNS,
};
