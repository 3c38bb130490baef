-- utxoiq: backward-compatible
-- How the acceptance criteria stand: what processes measured, what was tried, and since when each is in its state.
-- created: 2026-11-23T22:40:00Z
--
-- Nothing here is evidence that somebody else could not make anew: it is what the serving processes say of themselves. What they did
-- is in the tables of the slices, in the audit log and in the manifests, and criteria about that are judged there.

create table slo_facts (
    -- What was measured, by a name that the program knows, also what its buckets are.
    meter         text        not null,
    -- The length of the bucket of time: a minute, kept for some hours, or an hour, kept for as long as a window may be.
    width_seconds integer     not null,
    bucket_at     timestamptz not null,
    -- Each process writes rows of its own, as often as it likes: merging is adding up, and nobody can overwrite another's.
    instance      uuid        not null,
    counts        bigint[]    not null,
    worst         bigint      not null,
    constraint slo_facts_pkey primary key (width_seconds, bucket_at, meter, instance),
    constraint slo_facts_meter_is_a_name check (meter ~ '^[a-z][a-z0-9_]{0,49}$'),
    constraint slo_facts_width_known check (width_seconds in (60, 3600)),
    constraint slo_facts_counts_length check (cardinality(counts) between 2 and 20),
    constraint slo_facts_counts_not_negative check (0 <= all (counts)),
    constraint slo_facts_worst_not_negative check (worst >= 0)
);

create table slo_probes (
    id               uuid        not null,
    started_at       timestamptz not null,
    started_by       text        not null,
    lease_expires_at timestamptz not null,
    ended_at         timestamptz,
    -- 'ok', 'failed', or 'lost': its process was not heard of any more.
    outcome          text,
    -- What was tried: [{criterion, step, ok, message, took_milliseconds}].
    steps            jsonb,
    error            text,
    constraint slo_probes_pkey primary key (id),
    constraint slo_probes_started_by_length check (char_length(started_by) between 1 and 200),
    constraint slo_probes_outcome_known check (outcome in ('ok', 'failed', 'lost')),
    constraint slo_probes_ended_check check ((ended_at is null) = (outcome is null)),
    constraint slo_probes_steps_are_a_list check (jsonb_typeof(steps) = 'array'),
    constraint slo_probes_error_length check (char_length(error) <= 4000)
);
create index slo_probes_started_idx on slo_probes (started_at desc, id);
create unique index slo_probes_one_at_a_time on slo_probes ((ended_at is null)) where ended_at is null;

create table slo_states (
    criterion text        not null,
    state     text        not null,
    since_at  timestamptz not null,
    constraint slo_states_pkey primary key (criterion),
    constraint slo_states_criterion_is_one check (criterion ~ '^C[1-8][.][1-5]$'),
    constraint slo_states_state_known check (state in ('met', 'missed', 'unknown'))
);

create table slo_changes (
    id         bigint generated always as identity,
    criterion  text        not null,
    state      text        not null,
    changed_at timestamptz not null,
    summary    text        not null,
    constraint slo_changes_pkey primary key (id),
    constraint slo_changes_criterion_is_one check (criterion ~ '^C[1-8][.][1-5]$'),
    constraint slo_changes_state_known check (state in ('met', 'missed', 'unknown')),
    constraint slo_changes_summary_length check (char_length(summary) <= 2000)
);
create index slo_changes_criterion_idx on slo_changes (criterion, id desc);
create index slo_changes_changed_idx on slo_changes (changed_at);

-- What retention should have moved or deleted by now, for the role that serves: holds are not for it to read. At most 1,000 rows of
-- each kind are counted; what is held is not due.
-- A text, not a parsed body: PostgreSQL writes that one otherwise after a restore, and a proof compares it.
create function slo_overdue(metrics_before date, jobs_before date, feedback_before date, gone_before date, ended_before timestamptz)
    returns table (what text, due bigint, oldest date)
    language sql stable security definer set search_path = public, pg_temp
as $$
    select 'metrics', count(*), min(d.day)
    from (select m.day from metric_days m
          where m.state in ('open', 'detached') and m.day < metrics_before and not archive_day_is_held('metrics', m.day)
          order by m.day limit 1000) d
    union all
    select 'backfill_jobs', count(*), min((d.ended_at at time zone 'UTC')::date)
    from (select j.ended_at from backfill_jobs j
          where j.ended_at < jobs_before::timestamp at time zone 'UTC'
                and not archive_day_is_held('backfill_jobs', (j.ended_at at time zone 'UTC')::date)
          order by j.ended_at limit 1000) d
    union all
    select 'feedback', count(*), min((d.updated_at at time zone 'UTC')::date)
    from (select f.updated_at from insight_feedback f
          where f.updated_at < feedback_before::timestamp at time zone 'UTC'
                and not archive_day_is_held('feedback', (f.updated_at at time zone 'UTC')::date)
                and not archive_is_held(f.user_id, f.insight_id)
          order by f.updated_at limit 1000) d
    union all
    select 'feedback_history', count(*), min((d.occurred_at at time zone 'UTC')::date)
    from (select h.occurred_at from feedback_history h
          where h.occurred_at < feedback_before::timestamp at time zone 'UTC'
                and not archive_day_is_held('feedback_history', (h.occurred_at at time zone 'UTC')::date)
                and not archive_is_held(h.user_id, h.insight_id)
          order by h.occurred_at limit 1000) d
    union all
    select 'cold_metrics', count(*), min(d.day)
    from (select a.day from archives a
          where a.dataset = 'metrics' and a.state = 'archived' and a.day < gone_before
                and not archive_day_is_held('metrics', a.day)
          order by a.day limit 1000) d
    union all
    select 'not_removed', count(*), min(d.day)
    from (select a.day from archives a
          where a.ended_at < ended_before and a.removed_at is null
          order by a.ended_at limit 1000) d;
$$;

comment on table slo_facts is 'What serving processes measured: counts by bucket of value, for each minute or hour and process.';
comment on table slo_probes is 'Each time that capabilities were tried in a scratch database, and what came of it.';
comment on table slo_states is 'Since when each criterion is in the state it is in.';
comment on table slo_changes is 'When a criterion went into another state.';
comment on function slo_overdue is 'How much retention should have moved or deleted by these days, and the oldest of it.';

grant select, insert, update (counts, worst), delete on slo_facts to utxoiq_app;
grant select, insert (id, started_at, started_by, lease_expires_at), update (lease_expires_at, ended_at, outcome, steps, error), delete
    on slo_probes to utxoiq_app;
grant select, insert, update (state, since_at) on slo_states to utxoiq_app;
grant select, insert (criterion, state, changed_at, summary), delete on slo_changes to utxoiq_app;
revoke execute on function slo_overdue from public;
grant execute on function slo_overdue to utxoiq_app;
