//! The SQL of backups: the history here, and [`source`] for databases that are backed up or were restored.

pub mod proofs;
pub mod source;
pub mod target;

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Every statement.
pub const ALL: &[&Statement] = &[
    &ABANDON,
    &BEGIN,
    &RENEW,
    &STORED,
    &VERIFIED,
    &COPIED,
    &FAILED,
    &DAMAGED,
    &NOTE,
    &NEWEST_MANIFEST,
    &STORED_FOR,
    &CANDIDATES,
    &LEFTOVERS,
    &ADOPT,
    &PRUNED,
    &RECENT,
    &RECENT_PROOFS,
    &CONFIGURED_AT,
    &IS_RUNNING,
    &LIST,
    &ONE,
    &proofs::LOSE,
    &proofs::BEGIN,
    &proofs::RENEW,
    &proofs::END,
    &proofs::NEXT,
    &proofs::LIST,
    &proofs::ONE,
    &proofs::OVER,
    &proofs::SCRATCH,
    &target::READY,
    &target::LOCK,
    &target::MOVES,
    &target::BTREES,
    &source::TABLES,
    &source::NOT_BACKED_UP,
    &source::SEQUENCES,
    &source::FACTS,
    &source::ARCHIVES,
    &source::EXPORT,
];

/// What a list of backups has.
macro_rules! backups {
    ($rest:literal) => {
        concat!(
            "select id, slot_at, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes,
                    row_count, table_count, encode(sha256, 'hex') as sha256, encode(manifest_sha256, 'hex') as manifest_sha256,
                    schema_version, stored_at, verified_at, copied_at, modified_at, damaged_at, ended_at,
                    pruned_at, error,
                    (select max(p.ended_at) from backup_proofs p where p.backup_id = b.id and p.outcome = 'proved') as proved_at
             from backups b ",
            $rest
        )
    };
}

/// The columns of such a list.
macro_rules! backup_columns {
    () => {
        &[
            ("id", Type::UUID),
            ("slot_at", Type::TIMESTAMPTZ),
            ("started_at", Type::TIMESTAMPTZ),
            ("started_by", Type::TEXT),
            ("lease_expires_at", Type::TIMESTAMPTZ),
            ("state", Type::TEXT),
            ("object_key", Type::TEXT),
            ("plain_bytes", Type::INT8),
            ("stored_bytes", Type::INT8),
            ("row_count", Type::INT8),
            ("table_count", Type::INT4),
            ("sha256", Type::TEXT),
            ("manifest_sha256", Type::TEXT),
            ("schema_version", Type::INT4),
            ("stored_at", Type::TIMESTAMPTZ),
            ("verified_at", Type::TIMESTAMPTZ),
            ("copied_at", Type::TIMESTAMPTZ),
            ("modified_at", Type::TIMESTAMPTZ),
            ("damaged_at", Type::TIMESTAMPTZ),
            ("ended_at", Type::TIMESTAMPTZ),
            ("pruned_at", Type::TIMESTAMPTZ),
            ("error", Type::TEXT),
            ("proved_at", Type::TIMESTAMPTZ),
        ]
    };
}

/// Gives up runs of which nothing was heard for longer than their lease.
pub const ABANDON: Statement = Statement {
    name: "backup.abandon",
    sql: "update backups set state = 'abandoned', ended_at = $1,
                 error = 'its process was not heard of any more: look at that machine''s log'
          where state = 'running' and lease_expires_at <= $1 returning id, object_key",
    params: &[Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID), ("object_key", Type::TEXT)],
};

/// Begins a run: no row where another goes on.
pub const BEGIN: Statement = Statement {
    name: "backup.begin",
    sql: "insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key)
          values ($1, $2, $3, $4, $5, 'running', $6) on conflict ((ended_at is null)) where ended_at is null do nothing
          returning id",
    params: &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[("id", Type::UUID)],
};

/// A sign of life, until all is read back and copied.
pub const RENEW: Statement = Statement {
    name: "backup.renew",
    sql: "update backups set lease_expires_at = $2 where id = $1 and state in ('running', 'stored', 'verified') returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// The dump and its manifest are there.
pub const STORED: Statement = Statement {
    name: "backup.stored",
    sql: "update backups set state = 'stored', stored_at = $2, ended_at = $2, plain_bytes = $3, stored_bytes = $4, row_count = $5,
                 table_count = $6, sha256 = decode($7, 'hex'), manifest_sha256 = decode($8, 'hex'), schema_version = $9
          where id = $1 and state = 'running' returning id",
    params: &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT4,
        Type::TEXT,
        Type::TEXT,
        Type::INT4,
    ],
    columns: &[("id", Type::UUID)],
};

/// All of it was read back and is what was written.
pub const VERIFIED: Statement = Statement {
    name: "backup.verified",
    sql: "update backups set state = 'verified', verified_at = $2, modified_at = $3, damaged_at = null, error = null
          where id = $1 and state in ('stored', 'verified') returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// The same of the second copy.
pub const COPIED: Statement = Statement {
    name: "backup.copied",
    sql: "update backups set copied_at = $2, error = case when damaged_at is not null then error end where id = $1 and state = 'verified' returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// A run that failed.
pub const FAILED: Statement = Statement {
    name: "backup.failed",
    sql: "update backups set state = 'failed', ended_at = $2, error = left($3, 4000)
          where id = $1 and state = 'running' returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[("id", Type::UUID)],
};

/// What is in the store is not, or not any more, what was written.
pub const DAMAGED: Statement = Statement {
    name: "backup.damaged",
    sql: "update backups set damaged_at = coalesce(damaged_at, $2), error = left($3, 4000)
          where id = $1 and state in ('stored', 'verified') returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[("id", Type::UUID)],
};

/// Why it was not read back, or not copied; what is damaged has its own reason.
pub const NOTE: Statement = Statement {
    name: "backup.note",
    sql: "update backups set error = left($2, 4000)
          where id = $1 and state in ('stored', 'verified') and damaged_at is null",
    params: &[Type::UUID, Type::TEXT],
    columns: &[],
};

/// The manifest that the next one names as its previous.
pub const NEWEST_MANIFEST: Statement = Statement {
    name: "backup.newest_manifest",
    sql: "select id, encode(manifest_sha256, 'hex') as manifest_sha256 from backups
          where manifest_sha256 is not null order by started_at desc, id desc limit 1",
    params: &[],
    columns: &[("id", Type::UUID), ("manifest_sha256", Type::TEXT)],
};

/// The backup that a slot has already.
pub const STORED_FOR: Statement = Statement {
    name: "backup.stored_for",
    sql: "select id from backups where slot_at = $1 and state in ('stored', 'verified') and damaged_at is null
          order by started_at desc limit 1",
    params: &[Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// What lies in the store, or may, the newest first, and the runs that left nothing since the newest of them.
pub const CANDIDATES: Statement = Statement {
    name: "backup.candidates",
    sql: backups!("where state in ('stored', 'verified') or started_at > coalesce(
                       (select max(v.started_at) from backups v where v.state = 'verified' and v.started_at <= $1), '-infinity')
                   order by started_at desc, id desc"),
    params: &[Type::TIMESTAMPTZ],
    columns: backup_columns!(),
};

/// Runs that ended without a backup, as far as they have: what they left in the store is looked for.
pub const LEFTOVERS: Statement = Statement {
    name: "backup.leftovers",
    sql: backups!(
        "where state in ('failed', 'abandoned') and ended_at > $1 order by started_at desc, id desc"
    ),
    params: &[Type::TIMESTAMPTZ],
    columns: backup_columns!(),
};

/// A backup that is in the store, with its manifest, and that the history does not know, or knows as one that was not made.
pub const ADOPT: Statement = Statement {
    name: "backup.adopt",
    sql: "insert into backups (id, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes, row_count,
                               table_count, sha256, manifest_sha256, schema_version, stored_at, ended_at)
          values ($1, $2, $3, $4, 'stored', $5, $6, $7, $8, $9, decode($10, 'hex'), decode($11, 'hex'), $12, $4, $4)
          on conflict (id) do update set state = 'stored', plain_bytes = $6, stored_bytes = $7, row_count = $8, table_count = $9,
                 sha256 = decode($10, 'hex'), manifest_sha256 = decode($11, 'hex'), schema_version = $12, stored_at = $4,
                 ended_at = $4, error = null
          where backups.state in ('failed', 'abandoned') returning id",
    params: &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT4,
        Type::TEXT,
        Type::TEXT,
        Type::INT4,
    ],
    columns: &[("id", Type::UUID)],
};

/// Its objects are gone.
pub const PRUNED: Statement = Statement {
    name: "backup.pruned",
    sql: "update backups set state = 'pruned', pruned_at = $2 where id = $1 and state in ('stored', 'verified') returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// What the watch judges: the runs since a time, and what is kept of earlier ones.
pub const RECENT: Statement = Statement {
    name: "backup.recent",
    sql: backups!(
        "where started_at >= $1 or state in ('stored', 'verified') order by started_at desc, id desc"
    ),
    params: &[Type::TIMESTAMPTZ],
    columns: backup_columns!(),
};

/// The proofs since a time, and the last one that succeeded.
pub const RECENT_PROOFS: Statement = Statement {
    name: "backup.recent_proofs",
    sql: "select id, started_at, lease_expires_at, ended_at, outcome, error from backup_proofs
          where started_at >= $1
             or id = (select id from backup_proofs where outcome = 'proved' order by started_at desc, id desc limit 1)
          order by started_at desc, id desc",
    params: &[Type::TIMESTAMPTZ],
    columns: &[
        ("id", Type::UUID),
        ("started_at", Type::TIMESTAMPTZ),
        ("lease_expires_at", Type::TIMESTAMPTZ),
        ("ended_at", Type::TIMESTAMPTZ),
        ("outcome", Type::TEXT),
        ("error", Type::TEXT),
    ],
};

/// Whether a dump is being made.
pub const IS_RUNNING: Statement = Statement {
    name: "backup.is_running",
    sql: "select exists (select from backups where state = 'running' and lease_expires_at > $1) as is_running",
    params: &[Type::TIMESTAMPTZ],
    columns: &[("is_running", Type::BOOL)],
};

/// When the schedule first knew of the task that makes backups.
pub const CONFIGURED_AT: Statement = Statement {
    name: "backup.configured_at",
    sql: "select first_seen_at from schedule_tasks where task = 'make_backup'",
    params: &[],
    columns: &[("first_seen_at", Type::TIMESTAMPTZ)],
};

/// The newest runs.
pub const LIST: Statement = Statement {
    name: "backup.list",
    sql: backups!(
        "where $1 or state in ('running', 'stored', 'verified') order by started_at desc, id desc limit $2 offset $3"
    ),
    params: &[Type::BOOL, Type::INT8, Type::INT8],
    columns: backup_columns!(),
};

/// One run.
pub const ONE: Statement = Statement {
    name: "backup.one",
    sql: backups!("where id = $1"),
    params: &[Type::UUID],
    columns: backup_columns!(),
};
