//! The SQL of retention. It runs as the role that archives: what changes anything is a function of the database, which
//! checks again (migration 0009).

use chrono::NaiveDate;
use tokio_postgres::types::Type;

use crate::{cold::Dataset, db::Statement};

/// What a list of archives has.
macro_rules! archives {
    ($rest:literal) => {
        concat!(
            "select id, dataset, day, part, state, object_key, after_key, last_key, replaces, rows, bytes, sha256, content_sha256,
                    manifest, began_at, proved_at, archived_at, ended_at, end_reason, removed_at
             from archives ",
            $rest
        )
    };
}

mod erase;
mod holds;
mod look;
mod restore;
mod runs;

pub use erase::*;
pub use holds::*;
pub use look::*;
pub use restore::*;
pub use runs::*;

/// Every statement.
pub const ALL: &[&Statement] = &[
    &DUE_METRICS,
    &DUE_JOBS,
    &DUE_FEEDBACK,
    &DUE_HISTORY,
    &COLD_BEFORE,
    &HOLDS_ROWS,
    &NEXT_OF_JOBS,
    &NEXT_OF_FEEDBACK,
    &NEXT_OF_HISTORY,
    &LOSE_RUNS,
    &BEGIN_RUN,
    &RENEW_RUN,
    &END_RUN,
    &RUNS,
    &DAY_VERIFIED,
    &SERIES_OF_DAY,
    &NEXT_PART,
    &MANIFEST_STATE,
    &BEGIN,
    &PROVE,
    &ABANDON,
    &DETACH_DAY,
    &DROP_DAY,
    &ATTACH_DAY,
    &DELETE_ROWS,
    &EXPIRE,
    &REPLACE,
    &HELD_NAMES,
    &BEGIN_ERASURE,
    &ERASE_ALONE,
    &ERASE_HOT,
    &FINISH_ERASURE,
    &ERASURES,
    &ERASURE,
    &USERS_AFTER,
    &PERSONAL,
    &REWRITTEN,
    &RESTORE_ROWS,
    &RESTORE_DAY_BEGIN,
    &RESTORE_DAY,
    &RATED_AGAIN,
    &LIST,
    &OF_DAY,
    &HOT_SAMPLES,
    &HOT_JOBS,
    &HOT_FEEDBACK,
    &HOT_HISTORY,
    &PROOF,
    &NOTE_REMOVED,
    &NOT_FINISHED,
    &TO_REMOVE,
    &ARCHIVE,
    &PLACE_HOLD,
    &RELEASE_HOLD,
    &HOLDS,
];

const DUE_COLUMNS: &[(&str, Type)] = &[
    ("day", Type::DATE),
    ("rows", Type::INT8),
    ("held_rows", Type::INT8),
    ("is_held", Type::BOOL),
];

/// Days of samples before `$1` that are in the database, the oldest first, at most `$2`. How many samples they have is what
/// the database thinks: counting them takes as long as archiving.
pub const DUE_METRICS: Statement = Statement {
    name: "retention.due_metrics",
    sql: "select d.day, greatest(coalesce(c.reltuples, 0), 0)::bigint as rows, 0::bigint as held_rows,
                 archive_day_is_held('metrics', d.day) as is_held
          from metric_days d left join pg_class c on c.oid = to_regclass('system_metrics_' || to_char(d.day, 'YYYYMMDD'))
          where d.state = 'open' and d.day < $1 order by 4, 1 limit $2",
    params: &[Type::DATE, Type::INT8],
    columns: DUE_COLUMNS,
};

/// Days on which jobs ended that are in the database.
pub const DUE_JOBS: Statement = Statement {
    name: "retention.due_jobs",
    sql: "select (ended_at at time zone 'UTC')::date as day, count(*) as rows, 0::bigint as held_rows,
                 archive_day_is_held('backfill_jobs', (ended_at at time zone 'UTC')::date) as is_held
          from archive_backfill_jobs where ended_at >= '0001-01-01 00:00:00+00' and ended_at < $1::date::timestamp at time zone 'UTC'
          group by 1 order by 4, 1 limit $2",
    params: &[Type::DATE, Type::INT8],
    columns: DUE_COLUMNS,
};

/// Days of the last change of feedback that is in the database.
pub const DUE_FEEDBACK: Statement = Statement {
    name: "retention.due_feedback",
    sql: "select day, count(*) filter (where not held) as rows, count(*) filter (where held) as held_rows,
                 archive_day_is_held('feedback', day) as is_held
          from (select (updated_at at time zone 'UTC')::date as day, archive_is_held(user_id, insight_id) as held
                from archive_feedback where updated_at >= '0001-01-01 00:00:00+00' and updated_at < $1::date::timestamp at time zone 'UTC') f
          group by day order by archive_day_is_held('feedback', day), count(*) filter (where not held) = 0, day limit $2",
    params: &[Type::DATE, Type::INT8],
    columns: DUE_COLUMNS,
};

/// Days of acts that are in the history of feedback.
pub const DUE_HISTORY: Statement = Statement {
    name: "retention.due_history",
    sql: "select day, count(*) filter (where not held) as rows, count(*) filter (where held) as held_rows,
                 archive_day_is_held('feedback_history', day) as is_held
          from (select (occurred_at at time zone 'UTC')::date as day, archive_is_held(user_id, insight_id) as held
                from archive_feedback_history where occurred_at >= '0001-01-01 00:00:00+00' and occurred_at < $1::date::timestamp at time zone 'UTC') f
          group by day order by archive_day_is_held('feedback_history', day), count(*) filter (where not held) = 0, day limit $2",
    params: &[Type::DATE, Type::INT8],
    columns: DUE_COLUMNS,
};

/// Which days of a dataset are due.
pub fn due(dataset: Dataset) -> &'static Statement {
    match dataset {
        Dataset::Metrics => &DUE_METRICS,
        Dataset::BackfillJobs => &DUE_JOBS,
        Dataset::Feedback => &DUE_FEEDBACK,
        Dataset::FeedbackHistory => &DUE_HISTORY,
    }
}

/// Archives of a dataset's days before `$2`, at most `$3`.
pub const COLD_BEFORE: Statement = Statement {
    name: "retention.cold_before",
    sql: "select id, day, rows, archive_day_is_held(dataset, day) as is_held
          from archives where dataset = $1 and day < $2 and state = 'archived'
          order by archive_day_is_held(dataset, day), day, part, id limit $3",
    params: &[Type::TEXT, Type::DATE, Type::INT8],
    columns: &[
        ("id", Type::UUID),
        ("day", Type::DATE),
        ("rows", Type::INT8),
        ("is_held", Type::BOOL),
    ],
};

/// Whether anything is held by its user or insight.
pub const HOLDS_ROWS: Statement = Statement {
    name: "retention.holds_rows",
    sql: "select exists (select from legal_holds where scope in ('user', 'insight')) as holds",
    params: &[],
    columns: &[("holds", Type::BOOL)],
};

/// As far as the next archive of a day's rows goes: `$3` rows after the key `$2`.
const NEXT_PARAMS: &[Type] = &[Type::DATE, Type::TEXT, Type::INT8];
const NEXT_COLUMNS: &[(&str, Type)] = &[("last_key", Type::TEXT), ("rows", Type::INT8)];

/// Jobs, as many as have 32 MiB with all that belongs to them: a job may have a thousand long errors.
pub const NEXT_OF_JOBS: Statement = Statement {
    name: "retention.next_of_jobs",
    sql: "select (array_agg(id::text order by id desc))[1] as last_key, count(*) as rows
          from (select id, row_number() over w as number,
                       sum(octet_length(attempts) + octet_length(errors) + octet_length(checkpoints)) over w as bytes
                from (select * from archive_backfill_jobs
                      where ended_at >= $1::date::timestamp at time zone 'UTC' and ended_at < ($1::date + 1)::timestamp at time zone 'UTC'
                            and ($2::text is null or id > $2::text::uuid)
                      order by id limit $3) j window w as (order by id)) k
          where number = 1 or bytes <= 33554432",
    params: NEXT_PARAMS,
    columns: NEXT_COLUMNS,
};

/// Feedback.
pub const NEXT_OF_FEEDBACK: Statement = Statement {
    name: "retention.next_of_feedback",
    sql: "select (array_agg(id::text order by id desc))[1] as last_key, count(*) as rows
          from (select id from archive_feedback
                where updated_at >= $1::date::timestamp at time zone 'UTC' and updated_at < ($1::date + 1)::timestamp at time zone 'UTC'
                      and ($2::text is null or id > $2::text::uuid) and not archive_is_held(user_id, insight_id)
                order by id limit $3) k",
    params: NEXT_PARAMS,
    columns: NEXT_COLUMNS,
};

/// History.
pub const NEXT_OF_HISTORY: Statement = Statement {
    name: "retention.next_of_history",
    sql: "select max(id)::text as last_key, count(*) as rows
          from (select id from archive_feedback_history
                where occurred_at >= $1::date::timestamp at time zone 'UTC' and occurred_at < ($1::date + 1)::timestamp at time zone 'UTC'
                      and ($2::text is null or id > $2::text::bigint) and not archive_is_held(user_id, insight_id)
                order by id limit $3) k",
    params: NEXT_PARAMS,
    columns: NEXT_COLUMNS,
};

/// What a dataset's rows are to be copied out with. COPY takes no parameters: what stands here are a day and keys of ours.
pub fn copy_rows(
    dataset: Dataset,
    day: NaiveDate,
    after_key: Option<&str>,
    last_key: &str,
) -> String {
    let (view, time, key, held) = match dataset {
        Dataset::Metrics => return copy_samples(day),
        Dataset::BackfillJobs => ("archive_backfill_jobs", "ended_at", "uuid", ""),
        Dataset::Feedback => (
            "archive_feedback",
            "updated_at",
            "uuid",
            " and not archive_is_held(user_id, insight_id)",
        ),
        Dataset::FeedbackHistory => (
            "archive_feedback_history",
            "occurred_at",
            "bigint",
            " and not archive_is_held(user_id, insight_id)",
        ),
    };
    let after = after_key.map_or_else(String::new, |after| format!(" and id > '{after}'::{key}"));
    format!(
        "copy (select * from {view}
               where {time} >= '{day}'::timestamp at time zone 'UTC' and {time} < ('{day}'::date + 1)::timestamp at time zone 'UTC'
                     {after} and id <= '{last_key}'::{key}{held} order by id) to stdout (format binary)"
    )
}

fn copy_samples(day: NaiveDate) -> String {
    format!(
        "copy (select series_id, sampled_at, value, metadata::text from system_metrics
               where sampled_at >= '{day} 00:00:00Z' and sampled_at < '{} 00:00:00Z'
               order by series_id, sampled_at) to stdout (format binary)",
        day.succ_opt().unwrap_or(day)
    )
}

/// Whether a key is one that may stand in a COPY: digits of a number or of a UUID.
pub fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= 36
        && key
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Begins a transaction in which a day is copied out.
pub const BEGIN_COPY: &str = "begin isolation level repeatable read read only; set local timezone = 'UTC'; set local work_mem = '64MB'";

/// When a day's rollups were found equal to its samples, if that still holds.
pub const DAY_VERIFIED: Statement = Statement {
    name: "retention.day_verified",
    sql: "select verified_at from metric_days where day = $1 and state = 'open'",
    params: &[Type::DATE],
    columns: &[("verified_at", Type::TIMESTAMPTZ)],
};

/// The series that have samples on a day, which is verified: those that have its rollup.
pub const SERIES_OF_DAY: Statement = Statement {
    name: "retention.series_of_day",
    sql: "select s.id, s.service_name, s.metric_type, s.unit, s.labels::text as labels
          from metric_rollups r join metric_series s on s.id = r.series_id
          where r.hours = 24 and r.bucket = $1::date::timestamp at time zone 'UTC' order by s.id",
    params: &[Type::DATE],
    columns: &[
        ("id", Type::INT4),
        ("service_name", Type::TEXT),
        ("metric_type", Type::TEXT),
        ("unit", Type::TEXT),
        ("labels", Type::TEXT),
    ],
};

/// The number of a day's next archive.
pub const NEXT_PART: Statement = Statement {
    name: "retention.next_part",
    sql: "select coalesce(max(part) + 1, 0) as part from archives where dataset = $1 and day = $2",
    params: &[Type::TEXT, Type::DATE],
    columns: &[("part", Type::INT4)],
};

/// What a manifest says of the database beside its rows: how far the audit log and the migrations were.
pub const MANIFEST_STATE: Statement = Statement {
    name: "retention.manifest_state",
    sql: "select h.sequence, h.hash, (select max(number) from schema_migrations)::bigint as schema_version from audit_head h",
    params: &[],
    columns: &[
        ("sequence", Type::INT8),
        ("hash", Type::BYTEA),
        ("schema_version", Type::INT8),
    ],
};

/// Records an archive before its object is written.
pub const BEGIN: Statement = Statement {
    name: "retention.begin_archive",
    sql: "select archive_begin($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)::text as done",
    params: &[
        Type::INT8,
        Type::UUID,
        Type::TEXT,
        Type::DATE,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::UUID,
        Type::TIMESTAMPTZ,
    ],
    columns: DONE,
};

const DONE: &[(&str, Type)] = &[("done", Type::TEXT)];

/// Records what was read back.
pub const PROVE: Statement = Statement {
    name: "retention.prove_archive",
    sql: "select archive_prove($1, $2, $3, $4, $5, $6, $7, $8, $9)::text as done",
    params: &[
        Type::INT8,
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::BYTEA,
        Type::BYTEA,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: DONE,
};

/// Gives an archive up.
pub const ABANDON: Statement = Statement {
    name: "retention.abandon_archive",
    sql: "select archive_abandon($1, $2, $3, $4)::text as done",
    params: &[Type::UUID, Type::TEXT, Type::TIMESTAMPTZ, Type::TEXT],
    columns: DONE,
};

const STEP: &[Type] = &[Type::INT8, Type::UUID, Type::TIMESTAMPTZ, Type::TEXT];

/// Takes a day's partition out.
pub const DETACH_DAY: Statement = Statement {
    name: "retention.detach_day",
    sql: "select archive_detach_day($1, $2, $3, $4)::text as done",
    params: STEP,
    columns: DONE,
};

/// Drops it.
pub const DROP_DAY: Statement = Statement {
    name: "retention.drop_day",
    sql: "select archive_drop_day($1, $2, $3, $4)::text as done",
    params: STEP,
    columns: DONE,
};

/// Puts it back.
pub const ATTACH_DAY: Statement = Statement {
    name: "retention.attach_day",
    sql: "select archive_attach_day($1, $2, $3, $4)::text as done",
    params: &[Type::UUID, Type::TEXT, Type::TIMESTAMPTZ, Type::TEXT],
    columns: DONE,
};

/// Deletes an archive's rows.
pub const DELETE_ROWS: Statement = Statement {
    name: "retention.delete_rows",
    sql: "select archive_delete_rows($1, $2, $3, $4) as deleted",
    params: STEP,
    columns: &[("deleted", Type::INT8)],
};

/// Ends an archive whose time is up.
pub const EXPIRE: Statement = Statement {
    name: "retention.expire_archive",
    sql: "select archive_expire($1, $2, $3, $4, $5, $6)::text as done",
    params: &[
        Type::INT8,
        Type::UUID,
        Type::JSONB,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: DONE,
};

/// Notes that an object was seen to be gone.
pub const NOTE_REMOVED: Statement = Statement {
    name: "retention.note_removed",
    sql: "select archive_note_removed($1, $2, $3)::text as done",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT],
    columns: DONE,
};

const ARCHIVES: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("dataset", Type::TEXT),
    ("day", Type::DATE),
    ("part", Type::INT4),
    ("state", Type::TEXT),
    ("object_key", Type::TEXT),
    ("after_key", Type::TEXT),
    ("last_key", Type::TEXT),
    ("replaces", Type::UUID),
    ("rows", Type::INT8),
    ("bytes", Type::INT8),
    ("sha256", Type::BYTEA),
    ("content_sha256", Type::BYTEA),
    ("manifest", Type::TEXT),
    ("began_at", Type::TIMESTAMPTZ),
    ("proved_at", Type::TIMESTAMPTZ),
    ("archived_at", Type::TIMESTAMPTZ),
    ("ended_at", Type::TIMESTAMPTZ),
    ("end_reason", Type::TEXT),
    ("removed_at", Type::TIMESTAMPTZ),
];

/// Archives that a run began and did not finish, the oldest first.
pub const NOT_FINISHED: Statement = Statement {
    name: "retention.not_finished",
    sql: archives!("where state in ('writing', 'proved', 'detached') order by began_at, id"),
    params: &[],
    columns: ARCHIVES,
};

/// Archives that have ended whose objects are to go, or, of those that were given up, may have come since `$1`: whoever was
/// writing one may have been slow.
pub const TO_REMOVE: Statement = Statement {
    name: "retention.to_remove",
    sql: archives!(
        "where ended_at is not null and (removed_at is null or (state = 'abandoned' and ended_at >= $1)) order by ended_at, id limit $2"
    ),
    params: &[Type::TIMESTAMPTZ, Type::INT8],
    columns: ARCHIVES,
};

/// One archive.
pub const ARCHIVE: Statement = Statement {
    name: "retention.archive",
    sql: archives!("where id = $1"),
    params: &[Type::UUID],
    columns: ARCHIVES,
};
