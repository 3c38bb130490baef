-- The outbox of changes: which cached values a transaction has made stale (C4.3).
-- created: 2026-11-23T06:00:00Z
--
-- Triggers on the tables that are cached write here, in the writing transaction, so that whoever writes, psql included,
-- and whatever dies after the commit, every serving process learns of it: each polls what became visible since its last
-- poll. Nobody is notified from a writing transaction: NOTIFY holds a lock of the whole cluster through the commit.
--
-- Rows go when they have been visible for longer than any process may miss polls. Which ones went is told by a snapshot
-- and not by a time: a row may become visible long after it was written, and clocks are not equal. A process that finds
-- that a row was deleted which it had not seen begins a new generation of its caches.

create table cache_outbox (
    id         bigint      generated always as identity,
    -- What kind of value: a name that the program knows.
    kind       text        not null,
    -- Which value of that kind; null stands for all of them (TRUNCATE).
    key        text,
    -- The writing transaction.
    x          xid8        not null,
    -- The time of the write by the database's clock, for measuring how long the news took.
    written_at timestamptz not null,
    constraint cache_outbox_pkey primary key (id),
    constraint cache_outbox_kind_length check (char_length(kind) between 1 and 50)
);
create index cache_outbox_x_idx on cache_outbox (x);
-- It is written at the rate of all writes and emptied as fast: what is dead must not wait for a fifth of the table.
alter table cache_outbox set (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.0, autovacuum_vacuum_insert_threshold = 100000, vacuum_truncate = off);

create table cache_outbox_horizon (
    only_one         boolean not null,
    -- Everything up to this id that is visible in this snapshot may be gone. The snapshot is kept as text: snapshots cannot
    -- be hashed, and backups compare hashes. The id is there because a crash may give the number of a transaction that left
    -- no trace to another one: what that one writes has a higher id.
    deleted_snapshot text    not null,
    deleted_id       bigint  not null,
    -- What goes next, when it is old enough.
    marked_snapshot  text    not null,
    marked_id        bigint  not null,
    marked_at        timestamptz not null,
    constraint cache_outbox_horizon_pkey primary key (only_one),
    constraint cache_outbox_horizon_is_one_row check (only_one),
    constraint cache_outbox_horizon_snapshots_parse check (
        deleted_snapshot::pg_snapshot is not null and marked_snapshot::pg_snapshot is not null)
);
insert into cache_outbox_horizon values (true, '1:1:', 0, '1:1:', 0, 'epoch');

comment on table cache_outbox is 'Which cached values a transaction has made stale; kept for some minutes.';
comment on table cache_outbox_horizon is 'How far the outbox was emptied.';

-- Only triggers, as their owner, write; the serving role reads and empties.
grant select, delete on cache_outbox to utxoiq_app;
grant select, update (deleted_snapshot, deleted_id, marked_snapshot, marked_id, marked_at) on cache_outbox_horizon to utxoiq_app;
