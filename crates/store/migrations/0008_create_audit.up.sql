-- The audit log: one hash chain behind a locked head row, written only through its function (C7.5).
-- created: 2026-11-23T12:25:00Z
--
-- Every entry's hash covers the hash of the entry before it, so that one that was changed, removed or put elsewhere
-- shows. What the whole chain came to stands in audit_head, and copies of it outside (manifests of archives and backups)
-- show when the end was cut off.
--
-- audit_append locks the head row until its transaction ends: whoever appends next waits, and reads the head as it then
-- is. It must be called last in its transaction. Locking the last entry instead forks the chain: a waiting session still
-- sees the entry that was the last when its statement began.
--
-- The tables and the function belong to utxoiq_audit, which nobody logs in as: the functions of utxoiq_owner, too, can
-- write here only by calling audit_append.
do $$
begin
    if not exists (select from pg_roles where rolname = 'utxoiq_audit') then
        raise exception 'the role utxoiq_audit does not exist: run `utxoiq-store init` again, as an administrator'
            using errcode = 'undefined_object';
    end if;
    if not pg_has_role('utxoiq_owner', 'utxoiq_audit', 'member') or pg_has_role('utxoiq_owner', 'utxoiq_audit', 'usage')
        or not has_schema_privilege('utxoiq_audit', 'public', 'create')
    then
        raise exception 'the rights of the role utxoiq_audit are incomplete: run `utxoiq-store init` again, as an administrator'
            using errcode = 'insufficient_privilege';
    end if;
end $$;
-- utxoiq: allow ownership because nobody but this owner may write the audit log
set local role utxoiq_audit;

create table audit_log (
    sequence      bigint      not null,
    at            timestamptz not null,
    -- Who: a token's or an operator's name, or the task. Never a user's id: those are pseudonyms.
    actor         text        not null,
    -- As whom that was connected to the database: what it could do.
    database_role text        not null,
    action        text        not null,
    -- What it was done to.
    subject       text        not null,
    -- A JSON object, as it was given: the hash is over these very characters.
    details       text        not null,
    previous_hash bytea       not null,
    hash          bytea       not null,
    constraint audit_log_pkey primary key (sequence),
    constraint audit_log_sequence_positive check (sequence > 0),
    constraint audit_log_at_range check (at >= '1970-01-01 00:00:00+00' and at < '10000-01-01 00:00:00+00'),
    constraint audit_log_actor_length check (char_length(actor) between 1 and 200),
    constraint audit_log_action_form check (action ~ '^[a-z][a-z_]{0,49}$'),
    constraint audit_log_subject_length check (char_length(subject) between 1 and 1000),
    constraint audit_log_texts_are_printable check (actor || subject !~ '[[:cntrl:]]'),
    constraint audit_log_details_length check (octet_length(details) <= 65536),
    constraint audit_log_details_are_an_object check (jsonb_typeof(details::jsonb) = 'object'),
    constraint audit_log_hashes_are_sha256 check (octet_length(previous_hash) = 32 and octet_length(hash) = 32)
);
create index audit_log_at_idx on audit_log (at, sequence);
create index audit_log_action_idx on audit_log (action, sequence);
create index audit_log_subject_idx on audit_log (subject text_pattern_ops, sequence);
create index audit_log_actor_idx on audit_log (actor, sequence);

-- The last entry's number and hash. Before the first: 0, and 32 zero bytes. With room for the row's many versions.
create table audit_head (
    only_one boolean not null,
    sequence bigint  not null,
    hash     bytea   not null,
    constraint audit_head_pkey primary key (only_one),
    constraint audit_head_is_one_row check (only_one),
    constraint audit_head_sequence_not_negative check (sequence >= 0),
    constraint audit_head_hash_is_sha256 check (octet_length(hash) = 32)
) with (fillfactor = 10);
insert into audit_head values (true, 0, decode(repeat('00', 32), 'hex'));

-- One field of what is hashed: its length, then its bytes. What such a body names was found when it was made: it needs no
-- search_path, and is inlined.
create function audit_field(bytes bytea) returns bytea
    language sql immutable parallel safe
    return int4send(octet_length(bytes)) || bytes;

-- The hash of an entry: SHA-256 over all its other fields, each with its length in front, numbers as eight bytes, the
-- highest first, the time in microseconds since 1970. Equal bytes mean equal fields.
create function audit_hash(
    previous_hash bytea, sequence bigint, at timestamptz, actor text, database_role text, action text, subject text, details text
) returns bytea
    language sql stable parallel safe
    return sha256(
        audit_field(convert_to('utxoiq audit 1', 'UTF8'))
        || audit_field(previous_hash)
        || audit_field(int8send(sequence))
        || audit_field(int8send((extract(epoch from at) * 1000000)::bigint))
        || audit_field(convert_to(actor, 'UTF8'))
        || audit_field(convert_to(database_role, 'UTF8'))
        || audit_field(convert_to(action, 'UTF8'))
        || audit_field(convert_to(subject, 'UTF8'))
        || audit_field(convert_to(details, 'UTF8'))
    );

-- Appends an entry and returns its number. To be called last in its transaction, which holds the head until it ends.
create function audit_append(at timestamptz, actor text, action text, subject text, details text) returns bigint
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    head audit_head;
    entry audit_log;
begin
    -- Under READ COMMITTED whoever waited here gets the row as it then is; under the stricter levels, a serialization
    -- failure if it has changed since their snapshot.
    select * into strict head from audit_head for update;
    insert into audit_log (sequence, at, actor, database_role, action, subject, details, previous_hash, hash)
    values (head.sequence + 1, audit_append.at, audit_append.actor, session_user, audit_append.action, audit_append.subject,
            audit_append.details, head.hash,
            audit_hash(head.hash, head.sequence + 1, audit_append.at, audit_append.actor, session_user, audit_append.action,
                       audit_append.subject, audit_append.details))
    returning * into entry;
    update audit_head set sequence = entry.sequence, hash = entry.hash;
    return entry.sequence;
end $$;

comment on table audit_log is 'What was done that cannot be undone, and who tried to: a hash chain. Written by audit_append only.';
comment on table audit_head is 'The number and hash of the last entry of the audit log.';
comment on function audit_append is 'Appends to the audit log; called last in its transaction.';

-- Everybody may read it. utxoiq_owner appends inside its functions, so that what they do cannot go unlogged.
grant select on audit_log, audit_head to utxoiq_owner, utxoiq_migrator, utxoiq_app, utxoiq_retention, utxoiq_backup;
revoke execute on function audit_append from public;
grant execute on function audit_append to utxoiq_owner, utxoiq_migrator, utxoiq_app, utxoiq_retention;
-- utxoiq: allow ownership because the migrator goes on as who it was
set local role utxoiq_owner;
