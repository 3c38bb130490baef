-- Backups and their proofs (C8): what was made, what of it was seen, and what is still kept.
-- created: 2026-11-23T15:40:00Z
--
--   running ─► stored ─► verified ─► pruned
--      │          └──────────────────► pruned     its time is over, and a newer one is verified
--      ├─► failed                                  it said why
--      └─► abandoned                               its process was not heard of any more
--
-- These rows are the history, and what the watch judges by. The objects themselves tell everything that a restore needs in
-- their manifests: a database that is lost takes nothing with it. Each run has an id of its own, which is in the names of its
-- objects, and every change of a row names the run: what an abandoned run does late changes nothing.

create table backups (
    id               uuid        not null,
    -- The time of the schedule that it was made for; null: somebody asked for it.
    slot_at          timestamptz,
    started_at       timestamptz not null,
    started_by       text        not null,
    lease_expires_at timestamptz not null,
    state            text        not null,
    object_key       text        not null,
    -- What the manifest says.
    plain_bytes      bigint,
    stored_bytes     bigint,
    row_count        bigint,
    table_count      integer,
    sha256           bytea,
    manifest_sha256  bytea,
    schema_version   integer,
    stored_at        timestamptz,
    -- When the stored object was read back, all of it, and its hash was equal.
    verified_at      timestamptz,
    -- When the same was done with the second copy.
    copied_at        timestamptz,
    -- What the store said of when the object was written, when it was last read back: another time means other bytes.
    modified_at      timestamptz,
    -- Since when the store is known to have nothing, or something else.
    damaged_at       timestamptz,
    ended_at         timestamptz,
    pruned_at        timestamptz,
    error            text,
    constraint backups_pkey primary key (id),
    constraint backups_object_key_key unique (object_key),
    constraint backups_state_known check (state in ('running', 'stored', 'verified', 'failed', 'abandoned', 'pruned')),
    constraint backups_started_by_length check (char_length(started_by) between 1 and 200),
    constraint backups_error_length check (char_length(error) <= 4000),
    constraint backups_manifest_is_whole check (
        (stored_at is null) = (manifest_sha256 is null) and (stored_at is null) = (sha256 is null)
        and (stored_at is null) = (plain_bytes is null) and (stored_at is null) = (stored_bytes is null)
        and (stored_at is null) = (row_count is null) and (stored_at is null) = (table_count is null)
        and (stored_at is null) = (schema_version is null)),
    constraint backups_stored_before_verified check (stored_at is not null or (verified_at is null and state not in ('stored', 'verified'))),
    constraint backups_verified_check check (state <> 'verified' or verified_at is not null),
    constraint backups_copied_after_verified check (copied_at is null or verified_at is not null),
    constraint backups_ended_check check ((state = 'running') = (ended_at is null)),
    constraint backups_pruned_check check ((state = 'pruned') = (pruned_at is not null)),
    constraint backups_failed_says_why check (state not in ('failed', 'abandoned') or error is not null),
    constraint backups_digests_check check (octet_length(sha256) = 32 and octet_length(manifest_sha256) = 32)
);
create index backups_started_idx on backups (started_at desc, id);
-- One at a time.
create unique index backups_one_at_a_time on backups ((ended_at is null)) where ended_at is null;

create table backup_proofs (
    id                   uuid        not null,
    backup_id            uuid        not null,
    started_at           timestamptz not null,
    started_by           text        not null,
    lease_expires_at     timestamptz not null,
    -- Where it was restored: the server and the scratch database, without who connects.
    target               text        not null,
    ended_at             timestamptz,
    outcome              text,
    -- The time that a restore takes (the measured RTO), and the time of comparing all of it.
    restore_milliseconds bigint,
    compare_milliseconds bigint,
    details              jsonb,
    error                text,
    constraint backup_proofs_pkey primary key (id),
    constraint backup_proofs_backup_fkey foreign key (backup_id) references backups (id),
    constraint backup_proofs_outcome_known check (outcome in ('proved', 'failed', 'lost')),
    constraint backup_proofs_ended_check check ((ended_at is null) = (outcome is null)),
    constraint backup_proofs_failed_says_why check (outcome is null or (outcome = 'proved') = (error is null)),
    constraint backup_proofs_proved_is_measured check (
        outcome is distinct from 'proved' or (restore_milliseconds is not null and compare_milliseconds is not null)),
    constraint backup_proofs_started_by_length check (char_length(started_by) between 1 and 200),
    constraint backup_proofs_error_length check (char_length(error) <= 4000)
);
create index backup_proofs_backup_idx on backup_proofs (backup_id, started_at desc);
create unique index backup_proofs_one_at_a_time on backup_proofs ((ended_at is null)) where ended_at is null;

-- Nobody deletes: the history is short, and is the evidence.
grant select, insert, update on backups, backup_proofs to utxoiq_app;
grant select on backups, backup_proofs to utxoiq_retention;
