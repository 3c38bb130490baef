//! Writing archives anew without some rows, and erasing a person.

use tokio_postgres::types::Type;

use super::{ARCHIVES, DONE};
use crate::db::Statement;

/// Puts a proved archive in the place of the one that it replaces: `$3` are all rows of that one, `$4` whose leave, none where all
/// but the held ones do.
pub const REPLACE: Statement = Statement {
    name: "retention.replace_archive",
    sql: "select archive_replace($1, $2, $3, $4, $5, $6)::text as done",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::JSONB,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: DONE,
};

/// Users and insights under a hold.
pub const HELD_NAMES: Statement = Statement {
    name: "retention.held_names",
    sql: "select user_id, insight_id from legal_holds where scope in ('user', 'insight')",
    params: &[],
    columns: &[("user_id", Type::TEXT), ("insight_id", Type::TEXT)],
};

/// Records that a user is to be erased; gives the erasure that goes on, where one does.
pub const BEGIN_ERASURE: Statement = Statement {
    name: "retention.begin_erasure",
    sql: "select feedback_begin_erasure($1, $2, $3, $4, $5) as id",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[("id", Type::UUID)],
};

/// Whether no other erasure is under way, for as long as this transaction is open.
pub const ERASE_ALONE: Statement = Statement {
    name: "retention.erase_alone",
    sql: "select pg_try_advisory_xact_lock(hashtextextended('utxoiq erasure', 0)) as alone",
    params: &[],
    columns: &[("alone", Type::BOOL)],
};

/// Takes a user's rows out of the database.
pub const ERASE_HOT: Statement = Statement {
    name: "retention.erase_hot",
    sql: "select feedback, history from feedback_erase_hot($1, $2, $3)",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[("feedback", Type::INT8), ("history", Type::INT8)],
};

/// Writes the certificate; gives its number in the audit log.
pub const FINISH_ERASURE: Statement = Statement {
    name: "retention.finish_erasure",
    sql: "select feedback_finish_erasure($1, $2, $3, $4, $5) as sequence",
    params: &[
        Type::INT8,
        Type::UUID,
        Type::JSONB,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[("sequence", Type::INT8)],
};

/// Erasures that were begun and are not finished, the oldest first.
pub const ERASURES: Statement = Statement {
    name: "retention.unfinished_erasures",
    sql: "select id, user_id from feedback_erasures where user_id is not null order by requested_at, id",
    params: &[],
    columns: &[("id", Type::UUID), ("user_id", Type::TEXT)],
};

/// Who has feedback or history in the database, in the order of their ids, after `$1`.
pub const USERS_AFTER: Statement = Statement {
    name: "retention.users_after",
    sql: "select user_id from (select user_id from archive_feedback where user_id > $1
                              union select user_id from archive_feedback_history where user_id > $1) u
          order by user_id limit $2",
    params: &[Type::TEXT, Type::INT8],
    columns: &[("user_id", Type::TEXT)],
};

/// One erasure.
pub const ERASURE: Statement = Statement {
    name: "retention.erasure",
    sql: "select id, pseudonym, requested_at, requested_by, feedback_rows, history_rows, finished_at, audited_as
          from feedback_erasures where id = $1",
    params: &[Type::UUID],
    columns: &[
        ("id", Type::UUID),
        ("pseudonym", Type::TEXT),
        ("requested_at", Type::TIMESTAMPTZ),
        ("requested_by", Type::TEXT),
        ("feedback_rows", Type::INT8),
        ("history_rows", Type::INT8),
        ("finished_at", Type::TIMESTAMPTZ),
        ("audited_as", Type::INT8),
    ],
};

/// Archives whose objects tell of people: all but those that are known to be gone.
pub const PERSONAL: Statement = Statement {
    name: "retention.personal_archives",
    sql: archives!(
        "where dataset in ('feedback', 'feedback_history') and removed_at is null order by dataset, day, part"
    ),
    params: &[],
    columns: ARCHIVES,
};

/// What was written anew for a reason, and as what.
pub const REWRITTEN: Statement = Statement {
    name: "retention.rewritten_archives",
    sql: "select o.dataset, o.day, o.id as old_id, n.id as new_id, o.rows - n.rows as dropped, o.sha256 as old_sha256,
                 n.sha256 as new_sha256, o.content_sha256 as old_content_sha256, n.content_sha256 as new_content_sha256
          from archives o join archives n on n.replaces = o.id and n.archived_at is not null
          where o.state = 'replaced' and o.end_reason = $1 order by o.dataset, o.day, o.part",
    params: &[Type::TEXT],
    columns: &[
        ("dataset", Type::TEXT),
        ("day", Type::DATE),
        ("old_id", Type::UUID),
        ("new_id", Type::UUID),
        ("dropped", Type::INT8),
        ("old_sha256", Type::BYTEA),
        ("new_sha256", Type::BYTEA),
        ("old_content_sha256", Type::BYTEA),
        ("new_content_sha256", Type::BYTEA),
    ],
};
