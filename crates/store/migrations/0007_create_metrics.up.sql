-- System metrics as a time series: series, samples by day, and rollups by hour, day and week (C3.1 to C3.5).
-- created: 2026-11-23T09:10:00Z
--
-- A series is named once, in metric_series; a sample is its number, a time and a value. Samples lie in one partition a
-- day (UTC), which metric_make_day makes: a table of its own that is then attached, because CREATE TABLE ... PARTITION OF
-- locks everybody out. There is no default partition: it would have to be searched at every attachment.
--
-- Rollups are made from the samples of an hour when the hour is over, and made again when a sample of it comes later,
-- changes or goes. Which samples come later is told by a trigger, so that it holds for psql, too:
--
--   * metric_closing_hour (a sequence) says which hours are closed or being closed. A statement that writes into one of
--     them leaves a mark for each series and hour; a mark is never shared by two transactions, so none is lost.
--   * An hour is rolled up for the first time only when every transaction has ended that had its number before the
--     sequence was set: it may have read the sequence before, and left no mark.
--
-- A sequence and not a row, since a sequence is always read as it is now: under REPEATABLE READ a row would be read as it
-- was when the snapshot was taken, and the mark would be missing.

create table metric_services (
    service_name text        not null,
    created_at   timestamptz not null,
    constraint metric_services_pkey primary key (service_name),
    constraint metric_services_name_length check (char_length(service_name) between 1 and 100)
);

create table metric_series (
    id            integer     generated always as identity,
    service_name  text        not null,
    metric_type   text        not null,
    unit          text        not null,
    labels        jsonb       not null,
    -- What tells series with the same names apart, in a form that an index can hold.
    labels_digest uuid        generated always as (md5(labels::text)::uuid) stored,
    created_at    timestamptz not null,
    constraint metric_series_pkey primary key (id),
    constraint metric_series_identity unique (service_name, metric_type, unit, labels_digest),
    constraint metric_series_service_name_length check (char_length(service_name) between 1 and 100),
    constraint metric_series_metric_type_length check (char_length(metric_type) between 1 and 200),
    constraint metric_series_unit_length check (char_length(unit) <= 63),
    -- One of them stands between service and type where both are one text.
    constraint metric_series_names_are_printable check (service_name || metric_type !~ '[[:cntrl:]]'),
    constraint metric_series_labels_are_an_object check (jsonb_typeof(labels) = 'object')
);
create index metric_series_metric_type_idx on metric_series (metric_type, id);

-- The columns stand in the order that wastes no space: 48 bytes a row without metadata, 28 in the index.
create table system_metrics (
    sampled_at timestamptz      not null,
    value      double precision not null,
    series_id  integer          not null,
    metadata   jsonb,
    -- Times of a series come in order: there is no need for room between them.
    constraint system_metrics_pkey primary key (series_id, sampled_at) with (fillfactor = 100),
    -- Sums of such values stay finite; NaN is above every number.
    constraint system_metrics_value_range check (value between -1e300 and 1e300),
    constraint system_metrics_metadata_is_an_object check (jsonb_typeof(metadata) = 'object')
) partition by range (sampled_at);
-- The newest samples of many series: they lie nearly in the order of time, so that a few bytes a range of pages suffice.
create index system_metrics_sampled_at_idx on system_metrics using brin (sampled_at) with (pages_per_range = 16, autosummarize = on);

create table metric_days (
    day         date        not null,
    -- 'open': its samples are in its partition. What comes after that is retention's.
    state       text        not null,
    made_at     timestamptz not null,
    -- A verification under way, and when the last one found every rollup equal to its samples. A late write ends both.
    verifying   uuid,
    verified_at timestamptz,
    constraint metric_days_pkey primary key (day),
    constraint metric_days_state_known check (state in ('open', 'detached', 'archived')),
    constraint metric_days_day_range check (day between '1971-01-01' and '9999-01-01')
);

create sequence metric_closing_hour as bigint minvalue 0 start with 0;

create table metric_marks (
    series_id integer     not null,
    hour      timestamptz not null
);
create index metric_marks_series_hour_idx on metric_marks (series_id, hour);
alter table metric_marks set (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000, vacuum_truncate = off);

create table metric_rollups (
    series_id integer          not null,
    -- The length of the bucket in hours: 1, 24, or 168 (from Monday on).
    hours     smallint         not null,
    bucket    timestamptz      not null,
    count     bigint           not null,
    -- The sum as two numbers, the second being what the first cannot hold: so it does not depend on the order.
    sum       double precision not null,
    sum_low   double precision not null,
    min       double precision not null,
    min_at    timestamptz      not null,
    max       double precision not null,
    max_at    timestamptz      not null,
    last      double precision not null,
    last_at   timestamptz      not null,
    -- Out of the sketch, so that a reader of one bucket of one series need not open it.
    p50       double precision not null,
    p95       double precision not null,
    p99       double precision not null,
    sketch    bytea            not null,
    constraint metric_rollups_pkey primary key (series_id, hours, bucket),
    constraint metric_rollups_hours_known check (hours in (1, 24, 168)),
    constraint metric_rollups_are_not_empty check (count > 0)
) with (fillfactor = 90);
-- Sketches are compact already: packing them again costs more than it saves.
alter table metric_rollups alter column sketch set storage external;
create index metric_rollups_bucket_idx on metric_rollups using brin (bucket) with (pages_per_range = 16, autosummarize = on);

-- How far rollups are made. What is at or after rolled_before is computed from samples.
create table metric_rollup_state (
    only_one          boolean     not null,
    rolled_before     timestamptz not null,
    -- The hours before this one are being closed: they are rolled up when every transaction of this cluster below this
    -- one has ended. It was given its number when metric_closing_hour had been set.
    closing_before    timestamptz not null,
    closing_x         xid8        not null,
    system_identifier bigint      not null,
    constraint metric_rollup_state_pkey primary key (only_one),
    constraint metric_rollup_state_is_one_row check (only_one),
    constraint metric_rollup_state_is_in_order check (rolled_before <= closing_before)
);
insert into metric_rollup_state values (true, 'epoch', 'epoch', '0', 0);

-- Requests without times of their own, so that one that is sent again adds nothing.
create table metric_requests (
    caller     text        not null,
    key        text        not null,
    -- Of the request's body: the same key with another body is an error of the caller.
    digest     bytea       not null,
    -- The times that its samples without a time were given, in their order.
    times      timestamptz[] not null,
    created_at timestamptz not null,
    constraint metric_requests_pkey primary key (caller, key),
    constraint metric_requests_key_length check (char_length(key) between 1 and 255)
);
create index metric_requests_created_idx on metric_requests (created_at);

-- Makes the partition of a day; says whether it was missing. Fails for a day whose samples were archived.
create function metric_make_day(wanted date, made_at timestamptz) returns boolean
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
    execute format('alter table system_metrics attach partition %I for values from (%L) to (%L)', partition,
        wanted::timestamp at time zone 'UTC', (wanted + 1)::timestamp at time zone 'UTC');
    return true;
end $$;

-- Late writes take their days' rows, in order: a day that is being archived is not written into, and its verification is
-- over. First the update: two that held the row and then wanted to update it would wait for each other.
create function metric_note_late_days(days date[]) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    late_day date;
    its_state text;
begin
    foreach late_day in array days loop
        update metric_days set verifying = null, verified_at = null
        where day = late_day and (verifying is not null or verified_at is not null);
        select d.state into its_state from metric_days d where d.day = late_day for share;
        if its_state is distinct from 'open' then
            raise exception 'the samples of % are archived', late_day using errcode = 'UT001', constraint = 'metric_days_state_open';
        end if;
    end loop;
end $$;

-- After each statement on samples, on the parent or on a partition itself: marks for hours that are closed, and which
-- cached hours are stale. An entry of the outbox names an hour and up to 1,000 series.
create function metric_samples_changed() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    closing timestamptz := to_timestamp((select last_value from metric_closing_hour) * 3600.0);
    late_days date[];
begin
    with touched as materialized (
        select series_id, date_bin('1 hour', sampled_at, 'epoch') as hour from changed_rows group by 1, 2),
    marked as (
        insert into metric_marks (series_id, hour) select series_id, hour from touched where hour < closing returning hour),
    told as (
        insert into cache_outbox (kind, key, x, written_at)
        select 'metric_samples', (extract(epoch from hour) / 3600)::bigint || ':' || string_agg(series_id::text, ','),
               pg_current_xact_id(), clock_timestamp()
        from (select series_id, hour, (row_number() over (partition by hour)) / 1000 as part from touched) t
        group by hour, part)
    select array_agg(distinct (hour at time zone 'UTC')::date order by (hour at time zone 'UTC')::date) into late_days from marked;
    if late_days is not null then
        perform metric_note_late_days(late_days);
    end if;
    return null;
end $$;

-- A truncated partition is a day whose every rollup is to be made again; the parent's every rollup is.
create function metric_samples_truncated() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    only_day date;
begin
    -- An older snapshot would not show the rollups that were made since, and they would stay.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'samples are truncated in READ COMMITTED transactions only, or rollups would be left without them'
            using errcode = 'UT003';
    end if;
    if tg_table_name <> 'system_metrics' then
        only_day := to_date(right(tg_table_name, 8), 'YYYYMMDD');
        perform metric_note_late_days(array[only_day]);
    else
        update metric_days set verifying = null, verified_at = null where state = 'open';
    end if;
    -- Days that are archived keep their rollups: their samples are elsewhere.
    insert into metric_marks (series_id, hour)
    select r.series_id, r.bucket from metric_days d
    join metric_rollups r on r.hours = 1 and r.bucket >= d.day::timestamp at time zone 'UTC'
                             and r.bucket < (d.day + 1)::timestamp at time zone 'UTC'
    where d.state = 'open' and (only_day is null or d.day = only_day);
    insert into cache_outbox (kind, key, x, written_at) values ('metric_samples', null, pg_current_xact_id(), clock_timestamp());
    return null;
end $$;

create trigger changed_by_insert after insert on system_metrics
    referencing new table as changed_rows for each statement execute function metric_samples_changed();
create trigger changed_by_update_to after update on system_metrics
    referencing new table as changed_rows for each statement execute function metric_samples_changed();
create trigger changed_by_update_from after update on system_metrics
    referencing old table as changed_rows for each statement execute function metric_samples_changed();
create trigger changed_by_delete after delete on system_metrics
    referencing old table as changed_rows for each statement execute function metric_samples_changed();
create trigger changed_by_truncate after truncate on system_metrics
    for each statement execute function metric_samples_truncated();

-- Which lists of series are stale: those of a service and a type.
create function metric_series_changed() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into cache_outbox (kind, key, x, written_at)
    select distinct 'metric_series', service_name || chr(31) || metric_type, pg_current_xact_id(), clock_timestamp() from changed_rows;
    return null;
end $$;
create function metric_series_truncated() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into cache_outbox (kind, key, x, written_at) values ('metric_series', null, pg_current_xact_id(), clock_timestamp());
    return null;
end $$;
create trigger changed_by_insert after insert on metric_series
    referencing new table as changed_rows for each statement execute function metric_series_changed();

-- Processes remember the numbers of series: one that was renamed or deleted would take samples of its old name.
create function metric_series_are_kept() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if tg_op = 'UPDATE' and (new.id, new.service_name, new.metric_type, new.unit, new.labels)
                            = (old.id, old.service_name, old.metric_type, old.unit, old.labels) then
        return new;
    end if;
    raise exception 'series are not renamed or deleted: running services remember their numbers'
        using hint = 'a series of another name is made by its first sample', errcode = 'UT002';
end $$;
create trigger kept before update or delete on metric_series
    for each row execute function metric_series_are_kept();
create trigger changed_by_truncate after truncate on metric_series
    for each statement execute function metric_series_truncated();

comment on table metric_services is 'Services that have reported metrics; its rows are locked while their series are made.';
comment on table metric_series is 'Series of metrics: service, type, unit and labels.';
comment on table system_metrics is 'Samples, one partition a day (UTC).';
comment on table metric_days is 'The days that have or had a partition.';
comment on table metric_marks is 'Hours of series that were written into after they were closed, and wait to be rolled up again.';
comment on table metric_rollups is 'Count, sum, extremes, last value and percentiles of series by hour, day and ISO week (UTC).';
comment on table metric_rollup_state is 'How far rollups are made.';
comment on table metric_requests is 'Requests that carried an Idempotency-Key, kept for a day.';

-- The serving role adds samples, and cannot change or delete one; it makes rollups.
grant select, insert on metric_services, metric_series, system_metrics to utxoiq_app;
grant update (created_at) on metric_services to utxoiq_app;
grant select, update (verifying, verified_at) on metric_days to utxoiq_app;
grant select, insert, delete on metric_marks, metric_requests to utxoiq_app;
grant select, insert, update, delete on metric_rollups to utxoiq_app;
grant select, update (rolled_before, closing_before, closing_x, system_identifier) on metric_rollup_state to utxoiq_app;
grant select, update on sequence metric_closing_hour to utxoiq_app;

revoke execute on function metric_make_day from public;
grant execute on function metric_make_day to utxoiq_app;
-- Whoever may execute a trigger function may attach it to a table of its own, and write through it.
revoke execute on function metric_note_late_days from public;
revoke execute on function metric_samples_changed from public;
revoke execute on function metric_samples_truncated from public;
revoke execute on function metric_series_changed from public;
revoke execute on function metric_series_truncated from public;
revoke execute on function metric_series_are_kept from public;
