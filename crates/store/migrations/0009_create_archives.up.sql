-- Archives in cold storage, and the functions through which retention moves and deletes (C7.1 to C7.3, C3.5).
-- created: 2026-11-23T12:30:00Z
--
-- An archive is one object in cold storage: rows of one dataset and one day (UTC). Its row says where it is on its way:
--
--   writing ─► proved ─► archived                rows of a table: the move deletes them
--                  └───► detached ─► archived    a day of samples: its partition is detached, compared again, dropped
--   writing, proved, detached ─► abandoned       something had changed: what is hot stays hot, the object goes
--   archived ─► expired | replaced | restored    its time was up; it was written anew without somebody; it is hot again
--
-- A row is hot or cold, never both and never neither: each step that takes rows out of a table is one transaction with the
-- step of the archive that has them, and compares the rows, as they are then, with the digest of what was read back.
--
-- The role that archives owns nothing and can delete nothing. It calls these functions, which check again, and write the
-- audit log in the same transaction.

create table retention_runs (
    id               bigint      generated always as identity,
    began_at         timestamptz not null,
    began_by         text        not null,
    lease_expires_at timestamptz not null,
    ended_at         timestamptz,
    outcome          text,
    results          jsonb,
    constraint retention_runs_pkey primary key (id),
    constraint retention_runs_outcome_known check (outcome in ('success', 'failed', 'lost')),
    constraint retention_runs_ended_check check ((ended_at is null) = (outcome is null))
);
-- One at a time. What a run that was lost does late is refused: its row has ended.
create unique index retention_runs_one_at_a_time on retention_runs ((ended_at is null)) where ended_at is null;

create table legal_holds (
    id         uuid        not null,
    -- What it keeps: days of a dataset or of all; what a user gave; what was given on an insight.
    scope      text        not null,
    dataset    text,
    first_day  date,
    last_day   date,
    user_id    text,
    insight_id text,
    reason     text        not null,
    placed_by  text        not null,
    placed_at  timestamptz not null,
    -- Until it is released, where there is no end. Beyond its end it holds until the task that releases it has run.
    expires_at timestamptz,
    constraint legal_holds_pkey primary key (id),
    constraint legal_holds_scope_known check (scope in ('day', 'user', 'insight')),
    constraint legal_holds_dataset_known check (dataset in ('metrics', 'backfill_jobs', 'feedback', 'feedback_history')),
    constraint legal_holds_only_its_scope check (
        (scope = 'day') = (first_day is not null) and (scope = 'day') = (last_day is not null)
        and (scope = 'user') = (user_id is not null) and (scope = 'insight') = (insight_id is not null)
        and (scope = 'day' or dataset is null)),
    constraint legal_holds_days_in_order check (first_day <= last_day),
    constraint legal_holds_reason_length check (char_length(reason) between 1 and 1000),
    constraint legal_holds_placed_by_length check (char_length(placed_by) between 1 and 200),
    constraint legal_holds_expire_later check (expires_at > placed_at)
);

create table archives (
    id              uuid        not null,
    dataset         text        not null,
    day             date        not null,
    part            integer     not null,
    state           text        not null,
    object_key      text        not null,
    -- Of a table's rows: those after the first key, as far as the last one. Null: from the beginning; all of the day.
    after_key       text,
    last_key        text,
    -- Of a day of samples: the verification of its rollups under which it was copied. A late write ends that.
    day_verified_at timestamptz,
    replaces        uuid,
    began_at        timestamptz not null,
    -- What was read back: the manifest. Set once, when it is proved.
    rows            bigint,
    bytes           bigint,
    sha256          bytea,
    content_sha256  bytea,
    manifest        text,
    proved_at       timestamptz,
    detached_at     timestamptz,
    archived_at     timestamptz,
    -- Expired, replaced, restored or abandoned, and why; and when the object was seen to be gone.
    ended_at        timestamptz,
    end_reason      text,
    removed_at      timestamptz,
    -- Of a restored one: the hold that keeps its rows from leaving again at once. It is no obstacle to erasing a person.
    restore_hold    uuid,
    constraint archives_pkey primary key (id),
    constraint archives_object_key_key unique (object_key),
    constraint archives_replaces_fkey foreign key (replaces) references archives (id),
    constraint archives_dataset_known check (dataset in ('metrics', 'backfill_jobs', 'feedback', 'feedback_history')),
    constraint archives_state_known check (
        state in ('writing', 'proved', 'detached', 'archived', 'expired', 'replaced', 'restored', 'abandoned')),
    constraint archives_part_range check (part >= 0),
    constraint archives_ended_check check (
        (state in ('expired', 'replaced', 'restored', 'abandoned')) = (ended_at is not null)
        and (ended_at is null) = (end_reason is null)),
    constraint archives_proof_is_whole check (
        (proved_at is null) = (manifest is null) and (proved_at is null) = (rows is null) and (proved_at is null) = (bytes is null)
        and (proved_at is null) = (sha256 is null) and (proved_at is null) = (content_sha256 is null)),
    constraint archives_moved_only_if_proved check (
        proved_at is not null or state in ('writing', 'abandoned')),
    constraint archives_digests_check check (octet_length(sha256) = 32 and octet_length(content_sha256) = 32),
    constraint archives_removed_only_at_the_end check (removed_at is null or ended_at is not null)
);
create index archives_day_idx on archives (dataset, day, part);
-- A day of samples has one archive at a time.
create unique index archives_one_a_day on archives (day)
    where dataset = 'metrics' and state in ('writing', 'proved', 'detached', 'archived');
create index archives_not_finished_idx on archives (began_at) where state in ('writing', 'proved', 'detached');
create index archives_replaces_idx on archives (replaces) where replaces is not null;
create index archives_restore_hold_idx on archives (restore_hold) where restore_hold is not null;
create index archives_to_remove_idx on archives (ended_at) where ended_at is not null and removed_at is null;

-- Requests to erase a person's feedback, so that one that was interrupted is finished. The name goes when it is done.
create table feedback_erasures (
    id           uuid        not null,
    user_id      text,
    pseudonym    text        not null,
    requested_at timestamptz not null,
    requested_by text        not null,
    -- How many rows it took out of the database, each time that it was gone on with.
    feedback_rows bigint     not null,
    history_rows bigint      not null,
    finished_at  timestamptz,
    -- The certificate's number in the audit log.
    audited_as   bigint,
    constraint feedback_erasures_pkey primary key (id),
    constraint feedback_erasures_name_goes check ((finished_at is null) = (user_id is not null)),
    constraint feedback_erasures_certified check ((finished_at is null) = (audited_as is null))
);
create unique index feedback_erasures_one_a_user on feedback_erasures (user_id) where user_id is not null;

-- What an archive holds of each table: the columns, in their types and order. A digest is made of these rows.
create view archive_feedback as
select id, insight_id, user_id, rating::integer as rating, rated_at, comment, commented_at, flag_type, flag_reason, flagged_at,
       created_at, updated_at
from insight_feedback;

create view archive_feedback_history as
select id, insight_id, user_id, fact, rating::integer as rating, comment, flag_type, flag_reason, occurred_at
from feedback_history;

create function archive_time(at timestamptz) returns text
    language sql stable strict parallel safe
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Ended jobs that nobody holds a part of, with everything that is known of them.
create view archive_backfill_jobs as
select j.id, j.job_type, j.start_block, j.end_block, j.status, j.covered::text as covered, j.attempt, j.attempt_started_at,
       j.attempt_covered_blocks, j.claim_epoch, j.external_id, j.created_by, j.error_message, j.paused_by, j.started_at,
       j.progressed_at, j.heard_at, j.implicit_heard_at, j.reported_covered_blocks, j.trusted_below, j.ended_at,
       coalesce((select jsonb_agg(jsonb_build_object(
                     'attempt', a.attempt, 'started_at', archive_time(a.started_at), 'covered_blocks', a.covered_blocks,
                     'ended_at', archive_time(a.ended_at), 'outcome', a.outcome, 'error_message', a.error_message) order by a.attempt)
                 from backfill_attempts a where a.job_id = j.id), '[]')::text as attempts,
       coalesce((select jsonb_agg(jsonb_build_object(
                     'id', e.id, 'attempt', e.attempt, 'blocks', e.blocks::text, 'worker', e.worker, 'try', e.try,
                     'message', e.message, 'occurred_at', archive_time(e.occurred_at)) order by e.id)
                 from backfill_errors e where e.job_id = j.id), '[]')::text as errors,
       coalesce((select jsonb_agg(jsonb_build_object(
                     'block', c.block, 'block_hash', c.block_hash, 'recorded_at', archive_time(c.recorded_at)) order by c.block)
                 from backfill_checkpoints c where c.job_id = j.id), '[]')::text as checkpoints
from backfill_jobs j
where j.ended_at is not null and not exists (select from backfill_claims b where b.job_id = j.id);

create function archive_day_is_held(of_dataset text, of_day date) returns boolean
    language sql stable security definer set search_path = public, pg_temp
    return exists (select from legal_holds h where h.scope = 'day' and (h.dataset is null or h.dataset = of_dataset)
                                                   and of_day between h.first_day and h.last_day);

-- The same without the holds that restoring placed: those are for whoever reads what was restored.
create function archive_day_is_held_by_law(of_dataset text, of_day date) returns boolean
    language sql stable security definer set search_path = public, pg_temp
    return exists (select from legal_holds h where h.scope = 'day' and (h.dataset is null or h.dataset = of_dataset)
                                                   and of_day between h.first_day and h.last_day
                                                   and not exists (select from archives a where a.restore_hold = h.id));

create function archive_is_held(of_user text, of_insight text) returns boolean
    language sql stable security definer set search_path = public, pg_temp
    return exists (select from legal_holds h where (h.scope = 'user' and h.user_id = of_user)
                                                   or (h.scope = 'insight' and h.insight_id = of_insight));

-- The keys of the rows that an archive is of, as they are now.
create function archive_keys(of_dataset text, of_day date, rows_after text, rows_to text) returns text[]
    language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    since constant timestamptz := of_day::timestamp at time zone 'UTC';
    until constant timestamptz := (of_day + 1)::timestamp at time zone 'UTC';
begin
    case of_dataset
    when 'feedback' then
        return array(select id::text from archive_feedback
                     where updated_at >= since and updated_at < until and (rows_after is null or id > rows_after::uuid)
                           and id <= rows_to::uuid and not archive_is_held(user_id, insight_id) order by id);
    when 'feedback_history' then
        return array(select id::text from archive_feedback_history
                     where occurred_at >= since and occurred_at < until and (rows_after is null or id > rows_after::bigint)
                           and id <= rows_to::bigint and not archive_is_held(user_id, insight_id) order by id);
    when 'backfill_jobs' then
        return array(select id::text from archive_backfill_jobs
                     where ended_at >= since and ended_at < until and (rows_after is null or id > rows_after::uuid)
                           and id <= rows_to::uuid order by id);
    end case;
end $$;

-- How many rows have these keys, and their digest. Each row is hashed for itself, so that any number of them fits.
create function archive_digest_rows(of_dataset text, keys text[], out rows bigint, out digest bytea)
    language plpgsql stable security definer set search_path = public, pg_temp
    set max_parallel_workers_per_gather = 0 set jit = off as $$
begin
    case of_dataset
    when 'feedback' then
        select count(*), sha256(coalesce(string_agg(sha256(record_send(r)), '' order by r.id), '')) into rows, digest
        from (select * from archive_feedback where id = any (keys::uuid[])) r;
    when 'feedback_history' then
        select count(*), sha256(coalesce(string_agg(sha256(record_send(r)), '' order by r.id), '')) into rows, digest
        from (select * from archive_feedback_history where id = any (keys::bigint[])) r;
    when 'backfill_jobs' then
        select count(*), sha256(coalesce(string_agg(sha256(record_send(r)), '' order by r.id), '')) into rows, digest
        from (select * from archive_backfill_jobs where id = any (keys::uuid[])) r;
    end case;
end $$;

-- The same of rows that are given as JSON.
create function archive_digest_given(of_dataset text, given jsonb, out rows bigint, out digest bytea)
    language plpgsql stable security definer set search_path = public, pg_temp
    set max_parallel_workers_per_gather = 0 set jit = off as $$
begin
    case of_dataset
    when 'feedback' then
        select count(*), sha256(coalesce(string_agg(sha256(record_send(r)), '' order by r.id), '')) into rows, digest
        from jsonb_populate_recordset(null::archive_feedback, given) r;
    when 'feedback_history' then
        select count(*), sha256(coalesce(string_agg(sha256(record_send(r)), '' order by r.id), '')) into rows, digest
        from jsonb_populate_recordset(null::archive_feedback_history, given) r;
    end case;
end $$;

-- The same of a day of samples, hour by hour of each series.
create function archive_digest_samples(partition regclass, out rows bigint, out digest bytea)
    language plpgsql stable security definer set search_path = public, pg_temp
    set max_parallel_workers_per_gather = 0 set jit = off set work_mem = '64MB' as $$
begin
    execute format(
        'select coalesce(sum(n), 0)::bigint, sha256(coalesce(string_agg(d, '''' order by series_id, hour), ''''))
         from (select series_id, hour, count(*) as n, sha256(string_agg(b, '''' order by sampled_at)) as d
               from (select r.series_id, r.sampled_at, date_bin(''1 hour'', r.sampled_at, ''epoch'') as hour, record_send(r) as b
                     from (select series_id, sampled_at, value, metadata::text as metadata from %s) r) s
               group by series_id, hour) g', partition)
    into rows, digest;
end $$;

-- What stands in the way of a run: that it was lost.
create function archive_check_run(of_run bigint) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    -- Held to the end of this step: a run is not ended while one of its steps goes on.
    perform from retention_runs where id = of_run and ended_at is null for share;
    if not found then
        raise exception 'this run of retention is over: another one goes on'
            using errcode = 'UT010', constraint = 'retention_run_is_over';
    end if;
end $$;

-- Locks an archive, which must be in one of these states.
create function archive_in_state(of_archive uuid, variadic wanted text[]) returns archives
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its archives;
begin
    select * into its from archives where id = of_archive for update;
    if its.id is null or its.state <> all (wanted) then
        raise exception 'the archive % is %, not %', of_archive, coalesce(its.state, 'unknown'), array_to_string(wanted, ' or ')
            using errcode = 'UT011', constraint = 'archive_state';
    end if;
    return its;
end $$;

create function archive_audit(its archives, action text, at timestamptz, actor text, more jsonb) returns bigint
    language sql security definer set search_path = public, pg_temp
    return audit_append(at, actor, action, its.dataset || '/' || to_char(its.day, 'YYYY-MM-DD'),
        (jsonb_strip_nulls(jsonb_build_object(
            'archive', its.id, 'object', its.object_key, 'rows', its.rows, 'bytes', its.bytes,
            'sha256', encode(its.sha256, 'hex'), 'content_sha256', encode(its.content_sha256, 'hex'),
            'manifest_sha256', encode(sha256(convert_to(its.manifest, 'UTF8')), 'hex'))) || more)::text);

create function archive_begin(of_run bigint, new_id uuid, of_dataset text, of_day date, new_key text, rows_after text, rows_to text,
                              verified timestamptz, instead_of uuid, at timestamptz) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if of_run is not null then
        perform archive_check_run(of_run);
    end if;
    if of_dataset = 'metrics' and (verified is null or not exists (
        select from metric_days d where d.day = of_day and d.state = 'open' and d.verified_at = verified)) then
        raise exception 'the rollups of % are not verified', of_day using errcode = 'UT012', constraint = 'archive_changed';
    end if;
    if of_dataset <> 'metrics' and rows_to is null and instead_of is null then
        raise exception 'an archive of rows has a last key' using errcode = 'UT011', constraint = 'archive_state';
    end if;
    -- An object's place tells which archive it is: none is named by another's.
    if new_key !~ ('^' || of_dataset || '/day=' || to_char(of_day, 'YYYY-MM-DD') || '/part-[0-9]{4,5}-' || replace(new_id::text, '-', '')
                   || '\.parquet$') then
        raise exception '% is no key of the archive %', new_key, new_id using errcode = 'UT011', constraint = 'archive_state';
    end if;
    insert into archives (id, dataset, day, part, state, object_key, after_key, last_key, day_verified_at, replaces, began_at)
    select new_id, of_dataset, of_day, coalesce(max(a.part) + 1, 0), 'writing', new_key, rows_after, rows_to, verified, instead_of, at
    from archives a where a.dataset = of_dataset and a.day = of_day;
end $$;

-- Notes what was read back. A manifest is written once.
create function archive_prove(of_run bigint, of_archive uuid, its_rows bigint, its_bytes bigint, its_sha256 bytea, its_content bytea,
                              its_manifest text, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its archives;
begin
    if of_run is not null then
        perform archive_check_run(of_run);
    end if;
    its := archive_in_state(of_archive, 'writing');
    -- The manifest is what is left where the database is lost: it says of the archive what is said here.
    if not (its_manifest::jsonb @> jsonb_build_object(
        'archive_id', of_archive, 'object', its.object_key, 'dataset', its.dataset, 'day', to_char(its.day, 'YYYY-MM-DD'),
        'rows', its_rows, 'bytes', its_bytes, 'sha256', encode(its_sha256, 'hex'), 'content_sha256', encode(its_content, 'hex'))) then
        raise exception 'the manifest of % is one of something else', of_archive using errcode = 'UT011', constraint = 'archive_state';
    end if;
    update archives set state = 'proved', rows = its_rows, bytes = its_bytes, sha256 = its_sha256, content_sha256 = its_content,
                        manifest = its_manifest, proved_at = at
    where id = of_archive returning * into its;
    perform archive_audit(its, 'archive', at, actor, '{}');
end $$;

create function archive_abandon(of_archive uuid, why text, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its archives := archive_in_state(of_archive, 'writing', 'proved');
begin
    update archives set state = 'abandoned', ended_at = at, end_reason = why where id = of_archive;
    perform archive_audit(its, 'abandon', at, actor, jsonb_build_object('reason', why));
end $$;

create function archive_note_removed(of_archive uuid, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its archives := archive_in_state(of_archive, 'expired', 'replaced', 'restored', 'abandoned');
begin
    if its.removed_at is null then
        update archives set removed_at = at where id = of_archive;
        perform archive_audit(its, 'remove', at, actor, jsonb_build_object('reason', its.end_reason));
    end if;
end $$;

-- Why an archive's day cannot be detached now; null where it can.
create function archive_day_obstacle(its archives) returns text
    language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    if archive_day_is_held(its.dataset, its.day) then
        return 'held';
    end if;
    if not exists (select from metric_days d where d.day = its.day and d.state = 'open' and d.verified_at = its.day_verified_at) then
        return 'changed';
    end if;
    return null;
end $$;

create function archive_refuse(its archives, obstacle text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if obstacle = 'held' then
        raise exception '% of % is under a legal hold', its.dataset, its.day using errcode = 'UT013', constraint = 'archive_held';
    end if;
    raise exception '% of % has changed since it was archived', its.dataset, its.day
        using errcode = 'UT012', constraint = 'archive_changed';
end $$;

-- Takes a day's partition out of the table of samples. What is waited for is bounded: a queued lock holds up every reader.
create function archive_detach_day(of_run bigint, of_archive uuid, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '100ms' as $$
declare
    its archives;
    partition text;
    obstacle text;
begin
    perform archive_check_run(of_run);
    its := archive_in_state(of_archive, 'proved');
    partition := 'system_metrics_' || to_char(its.day, 'YYYYMMDD');
    -- Asked before anybody is held up, and again when nobody can change the answer.
    obstacle := archive_day_obstacle(its);
    if obstacle is null then
        lock table legal_holds in share mode;
        -- The day's own first: whoever reads it for long is waited for here, where readers of other days are not held up.
        execute format('lock table %I in access exclusive mode', partition);
        lock table only system_metrics in access exclusive mode;
        perform from metric_days d where d.day = its.day for update;
        obstacle := archive_day_obstacle(its);
    end if;
    if obstacle is not null then
        perform archive_refuse(its, obstacle);
    end if;
    execute format('alter table system_metrics detach partition %I', partition);
    update metric_days set state = 'detached' where day = its.day;
    update archives set state = 'detached', detached_at = at where id = of_archive returning * into its;
    perform archive_audit(its, 'detach', at, actor, '{}');
end $$;

-- Drops a detached day that is, sample for sample, what was read back.
create function archive_drop_day(of_run bigint, of_archive uuid, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '100ms' as $$
declare
    its archives;
    partition text;
    there record;
begin
    perform archive_check_run(of_run);
    its := archive_in_state(of_archive, 'detached');
    if archive_day_is_held(its.dataset, its.day) then
        perform archive_refuse(its, 'held');
    end if;
    partition := 'system_metrics_' || to_char(its.day, 'YYYYMMDD');
    lock table legal_holds in share mode;
    execute format('lock table %I in access exclusive mode', partition);
    select * into there from archive_digest_samples(partition::regclass);
    if archive_day_is_held(its.dataset, its.day) then
        perform archive_refuse(its, 'held');
    end if;
    if (there.rows, there.digest) is distinct from (its.rows, its.content_sha256) then
        perform archive_refuse(its, 'changed');
    end if;
    execute format('drop table %I', partition);
    update metric_days set state = 'archived' where day = its.day;
    update archives set state = 'archived', archived_at = at where id = of_archive returning * into its;
    perform archive_audit(its, 'drop', at, actor, '{}');
end $$;

-- Puts a detached day back: its table is not what was read back, or the object is lost, or a hold was placed.
create function archive_attach_day(of_archive uuid, why text, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '100ms' set datestyle = 'ISO' set timezone = 'UTC' as $$
declare
    its archives := archive_in_state(of_archive, 'detached');
    partition constant text := 'system_metrics_' || to_char(its.day, 'YYYYMMDD');
begin
    execute format('alter table system_metrics attach partition %I for values from (%L) to (%L)', partition,
        its.day::timestamp at time zone 'UTC', (its.day + 1)::timestamp at time zone 'UTC');
    update metric_days set state = 'open', verifying = null, verified_at = null where day = its.day;
    update archives set state = 'abandoned', ended_at = at, end_reason = why where id = of_archive;
    perform archive_audit(its, 'attach', at, actor, jsonb_build_object('reason', why));
end $$;

-- Deletes the rows of an archive, if they are what was read back, all of them and nothing else. Feedback is moved to the
-- sums of its insight and day in the same transaction.
create function archive_delete_rows(of_run bigint, of_archive uuid, at timestamptz, actor text) returns bigint
    language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    its archives;
    keys text[];
    there record;
    deleted bigint;
begin
    perform archive_check_run(of_run);
    its := archive_in_state(of_archive, 'proved');
    -- A hold is placed before this or after it, not between its parts.
    lock table legal_holds in share mode;
    if archive_day_is_held(its.dataset, its.day) then
        perform archive_refuse(its, 'held');
    end if;
    -- First the locks, then, in later statements, what is there: locked rows stay as they are.
    keys := archive_keys(its.dataset, its.day, its.after_key, its.last_key);
    case its.dataset
    when 'feedback' then perform from insight_feedback where id = any (keys::uuid[]) order by id for update;
    when 'backfill_jobs' then
        perform from backfill_jobs where id = any (keys::uuid[]) order by id for update;
        perform from backfill_attempts where job_id = any (keys::uuid[]) for update;
        perform from backfill_errors where job_id = any (keys::uuid[]) for update;
        perform from backfill_checkpoints where job_id = any (keys::uuid[]) for update;
    when 'feedback_history' then perform from feedback_history where id = any (keys::bigint[]) order by id for update;
    end case;
    select * into there from archive_digest_rows(its.dataset, keys);
    if keys is distinct from archive_keys(its.dataset, its.day, its.after_key, its.last_key)
       or (there.rows, there.digest) is distinct from (its.rows, its.content_sha256) then
        perform archive_refuse(its, 'changed');
    end if;
    case its.dataset
    when 'feedback' then
        perform archive_retire_feedback(array(select f from insight_feedback f where id = any (keys::uuid[])), its.day, 1);
        delete from insight_feedback where id = any (keys::uuid[]);
    when 'backfill_jobs' then delete from backfill_jobs where id = any (keys::uuid[]);
    when 'feedback_history' then delete from feedback_history where id = any (keys::bigint[]);
    end case;
    get diagnostics deleted = row_count;
    if deleted <> its.rows then
        perform archive_refuse(its, 'changed');
    end if;
    update archives set state = 'archived', archived_at = at where id = of_archive returning * into its;
    perform archive_audit(its, 'delete', at, actor, jsonb_build_object('deleted', deleted));
    return deleted;
end $$;

-- Adds live rows to the sums of retired ones, or (-1) takes them back.
create function archive_retire_feedback(given insight_feedback[], of_day date, sign integer) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into feedback_retired as r
    select insight_id, of_day, sign * count(*) filter (where rating = 1), sign * count(*) filter (where rating = 2),
           sign * count(*) filter (where rating = 3), sign * count(*) filter (where rating = 4), sign * count(*) filter (where rating = 5),
           sign * count(comment), sign * count(*) filter (where flag_type = 'inaccurate'),
           sign * count(*) filter (where flag_type = 'misleading'), sign * count(*) filter (where flag_type = 'spam'),
           sign * count(*) filter (where flag_type = 'inappropriate'), sign * count(*) filter (where flag_type = 'other')
    from unnest(given)
    group by insight_id order by insight_id
    on conflict (insight_id, day) do update set
        ratings_1 = r.ratings_1 + excluded.ratings_1, ratings_2 = r.ratings_2 + excluded.ratings_2,
        ratings_3 = r.ratings_3 + excluded.ratings_3, ratings_4 = r.ratings_4 + excluded.ratings_4,
        ratings_5 = r.ratings_5 + excluded.ratings_5, comments = r.comments + excluded.comments,
        flags_inaccurate = r.flags_inaccurate + excluded.flags_inaccurate,
        flags_misleading = r.flags_misleading + excluded.flags_misleading, flags_spam = r.flags_spam + excluded.flags_spam,
        flags_inappropriate = r.flags_inappropriate + excluded.flags_inappropriate, flags_other = r.flags_other + excluded.flags_other;
    if sign < 0 then
        delete from feedback_retired r
        where r.day = of_day and r.insight_id in (select g.insight_id from unnest(given) g)
              and (r.ratings_1, r.ratings_2, r.ratings_3, r.ratings_4, r.ratings_5, r.comments, r.flags_inaccurate,
                   r.flags_misleading, r.flags_spam, r.flags_inappropriate, r.flags_other) = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    end if;
end $$;

-- An archive's time is up: from here on nothing is read of it, and its object may be removed. A day of samples takes its
-- rollups along, and its week's where that was the last of its days. While anything is held by its user or insight, `given`
-- says of each row whose it is.
create function archive_expire(of_run bigint, of_archive uuid, given jsonb, why text, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its archives;
    there record;
    since timestamptz;
    monday date;
begin
    perform archive_check_run(of_run);
    its := archive_in_state(of_archive, 'archived');
    lock table legal_holds in share mode;
    if archive_day_is_held(its.dataset, its.day) then
        perform archive_refuse(its, 'held');
    end if;
    -- Where anything is held by user or insight, none of the rows is, which are those that were archived.
    if its.dataset in ('feedback', 'feedback_history') and exists (select from legal_holds h where h.scope in ('user', 'insight')) then
        select * into there from archive_digest_given(its.dataset, given);
        if (there.rows, there.digest) is distinct from (its.rows, its.content_sha256)
           or exists (select from jsonb_array_elements(given) d where archive_is_held(d ->> 'user_id', d ->> 'insight_id')) then
            perform archive_refuse(its, 'held');
        end if;
    end if;
    update archives set state = 'expired', ended_at = at, end_reason = why where id = of_archive;
    if its.dataset = 'metrics' then
        since := its.day::timestamp at time zone 'UTC';
        delete from metric_rollups where hours in (1, 24) and bucket >= since and bucket < since + interval '24 hours';
        monday := date_trunc('week', its.day::timestamp)::date;
        if not exists (select from metric_days d where d.day between monday and monday + 6 and d.day <> its.day
                       and (d.state <> 'archived' or exists (select from archives a where a.dataset = 'metrics' and a.day = d.day
                                                                                        and a.state = 'archived'))) then
            delete from metric_rollups where hours = 168 and bucket = monday::timestamp at time zone 'UTC';
        end if;
        insert into cache_outbox (kind, key, x, written_at) values ('metric_samples', null, pg_current_xact_id(), at);
        -- What a restore that was not finished has left.
        execute format('drop table if exists %I', 'system_metrics_' || to_char(its.day, 'YYYYMMDD'));
    end if;
    perform archive_audit(its, 'expire', at, actor, jsonb_build_object('reason', why));
end $$;

-- Puts an object that lacks some rows in the place of one that has them: those of a person who is erased, or, of an
-- archive whose time is up, all but those under a hold. `given` are all rows of the old one, which their digest proves; that
-- of those which stay must be the new one's. Those of a person who is erased leave the sums of retired rows, too; those whose
-- time is up stay counted there.
create function archive_replace(of_archive uuid, why text, given jsonb, erased_user text, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    new_one archives := archive_in_state(of_archive, 'proved');
    old_one archives;
    stay jsonb;
    go jsonb;
    old_there record;
    new_there record;
begin
    old_one := archive_in_state(new_one.replaces, 'archived');
    lock table legal_holds in share mode;
    select coalesce(jsonb_agg(d) filter (where not leaves), '[]'), coalesce(jsonb_agg(d) filter (where leaves), '[]') into stay, go
    from (select d, case when erased_user is null then not archive_is_held(d ->> 'user_id', d ->> 'insight_id')
                         else d ->> 'user_id' = erased_user end as leaves
          from jsonb_array_elements(given) d) r;
    select * into old_there from archive_digest_given(old_one.dataset, given);
    select * into new_there from archive_digest_given(old_one.dataset, stay);
    if (new_one.dataset, new_one.day) is distinct from (old_one.dataset, old_one.day)
       or (old_there.rows, old_there.digest) is distinct from (old_one.rows, old_one.content_sha256)
       or (new_there.rows, new_there.digest) is distinct from (new_one.rows, new_one.content_sha256) then
        perform archive_refuse(old_one, 'changed');
    end if;
    if exists (select from jsonb_array_elements(go) d where archive_is_held(d ->> 'user_id', d ->> 'insight_id'))
       or (erased_user is not null and archive_day_is_held_by_law(old_one.dataset, old_one.day))
       or (erased_user is null and archive_day_is_held(old_one.dataset, old_one.day)) then
        perform archive_refuse(old_one, 'held');
    end if;
    if erased_user is not null and old_one.dataset = 'feedback' then
        perform archive_retire_feedback(array(select f from jsonb_populate_recordset(null::insight_feedback, go) f), old_one.day, -1);
    end if;
    update archives set state = 'replaced', ended_at = at, end_reason = why where id = old_one.id;
    update archives set state = 'archived', archived_at = at, after_key = old_one.after_key, last_key = old_one.last_key
    where id = of_archive;
    perform archive_audit(new_one, 'replace', at, actor,
        jsonb_build_object('reason', why, 'replaces', old_one.id, 'replaced_sha256', encode(old_one.sha256, 'hex'),
                           'dropped', jsonb_array_length(go)));
end $$;

-- Holds are placed and released one after the other, and never while something is being deleted.
create function retention_place_hold(new_hold legal_holds, shown_as text, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    lock table legal_holds in share row exclusive mode;
    insert into legal_holds select new_hold.*;
    perform audit_append(new_hold.placed_at, actor, 'hold_add', shown_as, jsonb_strip_nulls(jsonb_build_object(
        'hold', new_hold.id, 'scope', new_hold.scope, 'dataset', new_hold.dataset, 'first_day', new_hold.first_day,
        'last_day', new_hold.last_day, 'reason', new_hold.reason, 'expires_at', archive_time(new_hold.expires_at)))::text);
end $$;

create function retention_release_hold(of_hold uuid, shown_as text, why text, at timestamptz, actor text) returns boolean
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    lock table legal_holds in share row exclusive mode;
    delete from legal_holds where id = of_hold;
    if not found then
        return false;
    end if;
    perform audit_append(at, actor, 'hold_release', shown_as, jsonb_build_object('hold', of_hold, 'reason', why)::text);
    return true;
end $$;

-- What is hot again is kept from leaving at once by a hold of its day.
create function archive_end_restored(its archives, hold_id uuid, hold_until timestamptz, why text, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update archives set state = 'restored', ended_at = at, end_reason = why, restore_hold = hold_id where id = its.id;
    -- All parts of a day that are restored at once have one.
    insert into legal_holds (id, scope, dataset, first_day, last_day, reason, placed_by, placed_at, expires_at)
    values (hold_id, 'day', its.dataset, its.day, its.day, 'restored: ' || why, actor, at, hold_until)
    on conflict (id) do nothing;
    perform archive_audit(its, 'restore', at, actor,
        jsonb_build_object('reason', why, 'hold', hold_id, 'held_until', archive_time(hold_until)));
end $$;

-- Brings an archive's rows back, if they are what was archived. Triggers count feedback in the statistics, as they should,
-- and write acts into the history and the days, which have them already: those of this transaction go again.
create function archive_restore_rows(of_archive uuid, given jsonb, hold_id uuid, hold_until timestamptz, why text,
                                     at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its archives := archive_in_state(of_archive, 'archived');
    keys constant text[] := array(select r ->> 'id' from jsonb_array_elements(given) r);
    there record;
    before_acts bigint;
begin
    -- First, as everybody takes it before the sums of retired rows.
    lock table legal_holds in share row exclusive mode;
    case its.dataset
    when 'feedback' then
        before_acts := nextval(pg_get_serial_sequence('feedback_history', 'id'));
        insert into insight_feedback select * from jsonb_populate_recordset(null::insight_feedback, given);
        delete from feedback_history where id > before_acts and (user_id, insight_id) in (
            select f.user_id, f.insight_id from jsonb_populate_recordset(null::insight_feedback, given) f);
        delete from feedback_day_deltas where x = pg_current_xact_id();
        perform archive_retire_feedback(array(select f from jsonb_populate_recordset(null::insight_feedback, given) f), its.day, -1);
    when 'feedback_history' then
        insert into feedback_history overriding system value
        select * from jsonb_populate_recordset(null::feedback_history, given);
    when 'backfill_jobs' then
        insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
            attempt_covered_blocks, claim_epoch, external_id, created_by, error_message, paused_by, started_at, progressed_at,
            heard_at, implicit_heard_at, reported_covered_blocks, trusted_below, ended_at)
        select id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
            attempt_covered_blocks, claim_epoch, external_id, created_by, error_message, paused_by, started_at, progressed_at,
            heard_at, implicit_heard_at, reported_covered_blocks, trusted_below, ended_at
        from jsonb_populate_recordset(null::backfill_jobs, given);
        insert into backfill_attempts select c.* from jsonb_array_elements(given) g
        cross join lateral jsonb_populate_recordset(null::backfill_attempts, archive_children(g, 'attempts')) c;
        insert into backfill_errors overriding system value select c.* from jsonb_array_elements(given) g
        cross join lateral jsonb_populate_recordset(null::backfill_errors, archive_children(g, 'errors')) c;
        insert into backfill_checkpoints select c.* from jsonb_array_elements(given) g
        cross join lateral jsonb_populate_recordset(null::backfill_checkpoints, archive_children(g, 'checkpoints')) c;
    end case;
    select * into there from archive_digest_rows(its.dataset, keys);
    if (there.rows, there.digest) is distinct from (its.rows, its.content_sha256) then
        perform archive_refuse(its, 'changed');
    end if;
    perform archive_end_restored(its, hold_id, hold_until, why, at, actor);
end $$;

-- What belongs to a job, each with the job's number.
create function archive_children(job jsonb, of_table text) returns jsonb
    language sql stable
    return (select coalesce(jsonb_agg(c || jsonb_build_object('job_id', job -> 'id')), '[]')
            from jsonb_array_elements((job ->> of_table)::jsonb) c);

-- An empty table for an archived day, to be filled with its samples; what a restore before left half filled goes.
create function archive_restore_day_begin(of_archive uuid) returns text
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its archives := archive_in_state(of_archive, 'archived');
    partition constant text := 'system_metrics_' || to_char(its.day, 'YYYYMMDD');
begin
    perform from metric_days d where d.day = its.day and d.state = 'archived' for update;
    if its.dataset <> 'metrics' or not found then
        perform archive_refuse(its, 'changed');
    end if;
    execute format('drop table if exists %I', partition);
    execute format('create table %I (like system_metrics including all)', partition);
    execute format('grant insert on %I to utxoiq_retention', partition);
    return partition;
end $$;

create function archive_restore_day(of_archive uuid, hold_id uuid, hold_until timestamptz, why text, at timestamptz, actor text) returns void
    language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '100ms' set datestyle = 'ISO' set timezone = 'UTC' as $$
declare
    its archives := archive_in_state(of_archive, 'archived');
    partition constant text := 'system_metrics_' || to_char(its.day, 'YYYYMMDD');
    there record;
begin
    execute format('lock table %I in access exclusive mode', partition);
    select * into there from archive_digest_samples(partition::regclass);
    if (there.rows, there.digest) is distinct from (its.rows, its.content_sha256) then
        perform archive_refuse(its, 'changed');
    end if;
    execute format('revoke insert on %I from utxoiq_retention', partition);
    perform metric_guard_partition(partition);
    execute format('alter table system_metrics attach partition %I for values from (%L) to (%L)', partition,
        its.day::timestamp at time zone 'UTC', (its.day + 1)::timestamp at time zone 'UTC');
    update metric_days set state = 'open', verifying = null, verified_at = null where day = its.day;
    perform archive_end_restored(its, hold_id, hold_until, why, at, actor);
end $$;

-- Whether anything that a person gave, and that is in the database, is under a hold.
create function feedback_is_held(of_user text) returns boolean
    language sql stable security definer set search_path = public, pg_temp
    return exists (select from legal_holds h where (h.scope = 'user' and h.user_id = of_user)
        or (h.scope = 'insight' and (exists (select from insight_feedback f where f.user_id = of_user and f.insight_id = h.insight_id)
                                     or exists (select from feedback_history f where f.user_id = of_user and f.insight_id = h.insight_id))))
        or exists (select from insight_feedback f where f.user_id = of_user
                   and archive_day_is_held_by_law('feedback', (f.updated_at at time zone 'UTC')::date))
        or exists (select from feedback_history f where f.user_id = of_user
                   and archive_day_is_held_by_law('feedback_history', (f.occurred_at at time zone 'UTC')::date));

create function feedback_refuse_held(of_user text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    lock table legal_holds in share mode;
    if feedback_is_held(of_user) then
        raise exception 'what this person gave is under a legal hold' using errcode = 'UT013', constraint = 'archive_held';
    end if;
end $$;

-- Erasing a person: what is hot goes at once, what is archived by archive_replace. A hold stops it. What is begun is
-- recorded, and is gone on with until it is done.
create function feedback_begin_erasure(new_id uuid, of_user text, shown_as text, at timestamptz, actor text) returns uuid
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its uuid;
begin
    perform feedback_refuse_held(of_user);
    insert into feedback_erasures (id, user_id, pseudonym, requested_at, requested_by, feedback_rows, history_rows)
    values (new_id, of_user, shown_as, at, actor, 0, 0)
    on conflict (user_id) where user_id is not null do nothing;
    select id into its from feedback_erasures where user_id = of_user;
    if its = new_id then
        perform audit_append(at, actor, 'erase_begin', shown_as, jsonb_build_object('erasure', its)::text);
    end if;
    return its;
end $$;

-- Takes out of the database what a person gave; how many rows it was is noted. What is held is asked of the very rows that
-- went: writers are not locked out, and may have come since.
create function feedback_erase_hot(of_erasure uuid, at timestamptz, actor text, out feedback bigint, out history bigint)
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its feedback_erasures;
    held boolean;
    held_acts boolean;
begin
    select * into its from feedback_erasures e where e.id = of_erasure for update;
    perform feedback_refuse_held(its.user_id);
    with gone as (delete from insight_feedback where user_id = its.user_id returning insight_id, updated_at)
    select count(*), coalesce(bool_or(archive_is_held(its.user_id, insight_id)
                                      or archive_day_is_held_by_law('feedback', (updated_at at time zone 'UTC')::date)), false)
    into feedback, held from gone;
    with gone as (delete from feedback_history where user_id = its.user_id returning insight_id, occurred_at)
    select count(*), coalesce(bool_or(archive_is_held(its.user_id, insight_id)
                                      or archive_day_is_held_by_law('feedback_history', (occurred_at at time zone 'UTC')::date)), false)
    into history, held_acts from gone;
    if held or held_acts then
        raise exception 'what this person gave is under a legal hold' using errcode = 'UT013', constraint = 'archive_held';
    end if;
    if feedback + history > 0 then
        update feedback_erasures set feedback_rows = feedback_rows + feedback, history_rows = history_rows + history
        where id = of_erasure;
        perform audit_append(at, actor, 'delete', its.pseudonym,
            jsonb_build_object('erasure', of_erasure, 'feedback_rows', feedback, 'history_rows', history)::text);
    end if;
end $$;

create function feedback_finish_erasure(of_run bigint, of_erasure uuid, certificate jsonb, at timestamptz, actor text) returns bigint
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    its feedback_erasures;
    sequence bigint;
begin
    select * into its from feedback_erasures where id = of_erasure for update;
    if its.finished_at is not null then
        return its.audited_as;
    end if;
    -- Written, or restored, since they were last looked for.
    if exists (select from insight_feedback f where f.user_id = its.user_id)
       or exists (select from feedback_history f where f.user_id = its.user_id) then
        raise exception 'rows of this person have come since' using errcode = 'UT012', constraint = 'archive_changed';
    end if;
    -- What another run had copied, and was given up, it may still be writing: its end removes that.
    if exists (select from retention_runs r join archives a on a.began_at >= r.began_at
               where r.ended_at is null and r.id is distinct from of_run and a.state = 'abandoned'
                     and a.dataset in ('feedback', 'feedback_history')) then
        raise exception 'a run of retention is under way that had copied rows' using errcode = 'UT012', constraint = 'archive_changed';
    end if;
    sequence := audit_append(at, actor, 'erase', its.pseudonym,
        (certificate || jsonb_build_object('erasure', its.id, 'requested_at', archive_time(its.requested_at),
                                           'feedback_rows', its.feedback_rows, 'history_rows', its.history_rows))::text);
    update feedback_erasures set finished_at = at, user_id = null, audited_as = sequence where id = of_erasure;
    return sequence;
end $$;

-- What a partition needs beside its table: triggers that look at each statement on it, and the serving role's rights.
create function metric_guard_partition(partition text) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    execute format('create trigger changed_by_insert after insert on %I referencing new table as changed_rows
        for each statement execute function metric_samples_changed()', partition);
    execute format('create trigger changed_by_update_to after update on %I referencing new table as changed_rows
        for each statement execute function metric_samples_changed()', partition);
    execute format('create trigger changed_by_update_from after update on %I referencing old table as changed_rows
        for each statement execute function metric_samples_changed()', partition);
    execute format('create trigger changed_by_delete after delete on %I referencing old table as changed_rows
        for each statement execute function metric_samples_changed()', partition);
    execute format('create trigger changed_by_truncate after truncate on %I
        for each statement execute function metric_samples_truncated()', partition);
    execute format('grant select, insert on %I to utxoiq_app', partition);
end $$;

-- As it was, with what a restored day needs, too, in a function of its own.
-- utxoiq: allow security-definer-public because the function is replaced, and keeps the rights it has
create or replace function metric_make_day(wanted date, made_at timestamptz) returns boolean
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := 'system_metrics_' || to_char(wanted, 'YYYYMMDD');
    its_state text;
begin
    -- What is there needs no lock: a late writer that stays open holds the day's row.
    if to_regclass(partition) is not null and exists (select from metric_days d where d.day = wanted and d.state = 'open') then
        return false;
    end if;
    insert into metric_days (day, state, made_at) values (wanted, 'open', metric_make_day.made_at) on conflict (day) do nothing;
    -- Others who make the same day wait here.
    select d.state into its_state from metric_days d where d.day = wanted for update;
    if its_state <> 'open' then
        raise exception 'the samples of % are archived', wanted using errcode = 'UT001', constraint = 'metric_days_state_open';
    end if;
    if to_regclass(partition) is not null then
        return false;
    end if;
    execute format('create table %I (like system_metrics including all)', partition);
    perform metric_guard_partition(partition);
    execute format('alter table system_metrics attach partition %I for values from (%L) to (%L)', partition,
        wanted::timestamp at time zone 'UTC', (wanted + 1)::timestamp at time zone 'UTC');
    return true;
end $$;

-- Tokens whose end has passed are refused already; this frees their names, and says so.
create function token_end_expired(at timestamptz, actor text) returns bigint
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    names text[];
begin
    with ended as (
        update service_tokens set revoked_at = at where revoked_at is null and expires_at <= at returning name)
    select array_agg(name order by name) into names from ended;
    if names is not null then
        perform audit_append(at, actor, 'token_expire', 'tokens', jsonb_build_object('tokens', to_jsonb(names[1:100]), 'count', cardinality(names))::text);
    end if;
    return coalesce(cardinality(names), 0);
end $$;

-- Days are those of the calendar that programs have: psql could write the end of time, or a day before the year 1. What is
-- there already stays; such rows never leave by themselves.
alter table insight_feedback add constraint insight_feedback_updated_in_range check (updated_at >= '0001-01-01 00:00:00+00') not valid;
alter table feedback_history add constraint feedback_history_occurred_in_range
    check (occurred_at >= '0001-01-01 00:00:00+00' and occurred_at < '10000-01-01 00:00:00+00') not valid;
alter table backfill_jobs add constraint backfill_jobs_ended_in_range
    check (ended_at >= '0001-01-01 00:00:00+00' and ended_at < '10000-01-01 00:00:00+00') not valid;

comment on table retention_runs is 'Runs of retention, one at a time.';
comment on table legal_holds is 'What neither leaves the database nor cold storage, whatever its age.';
comment on table archives is 'Objects in cold storage: what they hold, how that was proved, and how far they are on their way.';
comment on table feedback_erasures is 'Persons whose feedback is being erased, or was.';

grant select on archives to utxoiq_app;
grant select, insert on retention_runs to utxoiq_retention;
grant update (lease_expires_at, ended_at, outcome, results) on retention_runs to utxoiq_retention;
grant select on legal_holds, archives, metric_rollups, feedback_erasures, metric_days, metric_series, archive_feedback, archive_feedback_history, archive_backfill_jobs,
    system_metrics, feedback_retired to utxoiq_retention;

-- Whoever may execute one of these acts as the owner. What is not granted below is for the others of them only.
revoke execute on function archive_time from public;
revoke execute on function archive_day_is_held from public;
revoke execute on function archive_day_is_held_by_law from public;
revoke execute on function archive_is_held from public;
revoke execute on function archive_keys from public;
revoke execute on function archive_digest_rows from public;
revoke execute on function archive_digest_given from public;
revoke execute on function archive_digest_samples from public;
revoke execute on function archive_check_run from public;
revoke execute on function archive_in_state from public;
revoke execute on function archive_audit from public;
revoke execute on function archive_begin from public;
revoke execute on function archive_prove from public;
revoke execute on function archive_abandon from public;
revoke execute on function archive_note_removed from public;
revoke execute on function archive_day_obstacle from public;
revoke execute on function archive_refuse from public;
revoke execute on function archive_detach_day from public;
revoke execute on function archive_drop_day from public;
revoke execute on function archive_attach_day from public;
revoke execute on function archive_delete_rows from public;
revoke execute on function archive_retire_feedback from public;
revoke execute on function archive_expire from public;
revoke execute on function archive_replace from public;
revoke execute on function retention_place_hold from public;
revoke execute on function retention_release_hold from public;
revoke execute on function archive_end_restored from public;
revoke execute on function archive_restore_rows from public;
revoke execute on function archive_children from public;
revoke execute on function archive_restore_day_begin from public;
revoke execute on function archive_restore_day from public;
revoke execute on function feedback_is_held from public;
revoke execute on function feedback_refuse_held from public;
revoke execute on function feedback_begin_erasure from public;
revoke execute on function feedback_erase_hot from public;
revoke execute on function feedback_finish_erasure from public;
revoke execute on function metric_guard_partition from public;
grant execute on function archive_time to utxoiq_retention;
grant execute on function archive_day_is_held to utxoiq_retention;
grant execute on function archive_is_held to utxoiq_retention;
grant execute on function archive_begin to utxoiq_retention;
grant execute on function archive_prove to utxoiq_retention;
grant execute on function archive_abandon to utxoiq_retention;
grant execute on function archive_note_removed to utxoiq_retention;
grant execute on function archive_detach_day to utxoiq_retention;
grant execute on function archive_drop_day to utxoiq_retention;
grant execute on function archive_attach_day to utxoiq_retention;
grant execute on function archive_delete_rows to utxoiq_retention;
grant execute on function archive_expire to utxoiq_retention;
grant execute on function archive_replace to utxoiq_retention;
grant execute on function archive_restore_rows to utxoiq_retention;
grant execute on function archive_restore_day_begin to utxoiq_retention;
grant execute on function archive_restore_day to utxoiq_retention;
grant execute on function retention_place_hold to utxoiq_retention;
grant execute on function retention_release_hold to utxoiq_retention;
grant execute on function feedback_begin_erasure to utxoiq_retention;
grant execute on function feedback_erase_hot to utxoiq_retention;
grant execute on function feedback_finish_erasure to utxoiq_retention;
revoke execute on function token_end_expired from public;
grant execute on function token_end_expired to utxoiq_app;
