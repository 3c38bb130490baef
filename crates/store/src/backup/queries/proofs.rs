//! The SQL of proofs: their history, and what dead ones have left behind.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// What a list of proofs has.
macro_rules! proofs {
    ($rest:literal) => {
        concat!(
            "select p.id, p.backup_id, b.started_at as backup_started_at, p.started_at, p.started_by, p.lease_expires_at, p.target,
                    p.ended_at, p.outcome, p.restore_milliseconds, p.compare_milliseconds, p.details, p.error
             from backup_proofs p join backups b on b.id = p.backup_id ",
            $rest
        )
    };
}

/// The columns of such a list.
macro_rules! proof_columns {
    () => {
        &[
            ("id", Type::UUID),
            ("backup_id", Type::UUID),
            ("backup_started_at", Type::TIMESTAMPTZ),
            ("started_at", Type::TIMESTAMPTZ),
            ("started_by", Type::TEXT),
            ("lease_expires_at", Type::TIMESTAMPTZ),
            ("target", Type::TEXT),
            ("ended_at", Type::TIMESTAMPTZ),
            ("outcome", Type::TEXT),
            ("restore_milliseconds", Type::INT8),
            ("compare_milliseconds", Type::INT8),
            ("details", Type::JSONB),
            ("error", Type::TEXT),
        ]
    };
}

/// Gives up proofs of which nothing was heard for longer than their lease.
pub const LOSE: Statement = Statement {
    name: "backup.lose_proofs",
    sql: "update backup_proofs set outcome = 'lost', ended_at = $1,
                 error = 'its process was not heard of any more: look at that machine''s log'
          where ended_at is null and lease_expires_at <= $1 returning id",
    params: &[Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// Begins a proof: no row where another goes on.
pub const BEGIN: Statement = Statement {
    name: "backup.begin_proof",
    sql: "insert into backup_proofs (id, backup_id, started_at, started_by, lease_expires_at, target)
          values ($1, $2, $3, $4, $5, $6) on conflict ((ended_at is null)) where ended_at is null do nothing
          returning id",
    params: &[
        Type::UUID,
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[("id", Type::UUID)],
};

/// A sign of life.
pub const RENEW: Statement = Statement {
    name: "backup.renew_proof",
    sql: "update backup_proofs set lease_expires_at = $2 where id = $1 and ended_at is null returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// The end of a proof: proved where there is no error.
pub const END: Statement = Statement {
    name: "backup.end_proof",
    sql: "update backup_proofs set ended_at = $2, outcome = case when $3::text is null then 'proved' else 'failed' end,
                 error = left($3, 4000), restore_milliseconds = $4, compare_milliseconds = $5, details = $6
          where id = $1 and ended_at is null returning id",
    params: &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::JSONB,
    ],
    columns: &[("id", Type::UUID)],
};

/// The backup to prove next: the newest that was verified, of those not proved yet if there are any.
pub const NEXT: Statement = Statement {
    name: "backup.next_to_prove",
    sql: "select id from backups b
          where state = 'verified' and damaged_at is null
          order by exists (select from backup_proofs p where p.backup_id = b.id and p.outcome = 'proved'),
                   started_at desc, id desc
          limit 1",
    params: &[],
    columns: &[("id", Type::UUID)],
};

/// The newest proofs.
pub const LIST: Statement = Statement {
    name: "backup.proofs",
    sql: proofs!("order by p.started_at desc, p.id desc limit $1"),
    params: &[Type::INT8],
    columns: proof_columns!(),
};

/// One proof.
pub const ONE: Statement = Statement {
    name: "backup.one_proof",
    sql: proofs!("where p.id = $1"),
    params: &[Type::UUID],
    columns: proof_columns!(),
};

/// Those of some proofs that are over.
pub const OVER: Statement = Statement {
    name: "backup.proofs_over",
    sql: "select id from backup_proofs where id = any ($1) and ended_at is not null",
    params: &[Type::UUID_ARRAY],
    columns: &[("id", Type::UUID)],
};

/// The scratch databases on the server that is restored on; asked there.
pub const SCRATCH: Statement = Statement {
    name: "backup.scratch_databases",
    sql: "select datname::text as name from pg_database
          where datname ~ '^utxoiq_drill_[0-9a-f]{32}$' and pg_has_role(current_user, datdba, 'usage') order by name",
    params: &[],
    columns: &[("name", Type::TEXT)],
};
