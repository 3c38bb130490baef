-- Backfill jobs are cached: what changes in how a job is shown goes into the outbox (C4.3).
-- created: 2026-11-23T06:25:00Z
--
-- A job is shown with what its present claims have finished, so changes of claims are changes of the job. One row tells
-- of the job and of its type: the program knows which of its values show either.

create function backfill_record_changes() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if tg_table_name = 'backfill_claims' then
        insert into cache_outbox (kind, key, x, written_at)
        select distinct 'backfill_job', j.id || ' ' || j.job_type, pg_current_xact_id(), clock_timestamp()
        from changed_rows c join backfill_jobs j on j.id = c.job_id;
    else
        insert into cache_outbox (kind, key, x, written_at)
        select distinct 'backfill_job', id || ' ' || job_type, pg_current_xact_id(), clock_timestamp()
        from changed_rows;
    end if;
    return null;
end $$;
create function backfill_record_updated_jobs() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into cache_outbox (kind, key, x, written_at)
    select 'backfill_job', id || ' ' || job_type, pg_current_xact_id(), clock_timestamp()
    from (select id, job_type from old_rows union select id, job_type from new_rows) as either;
    return null;
end $$;
create function backfill_record_truncated() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into cache_outbox (kind, key, x, written_at) values ('backfill_job', null, pg_current_xact_id(), clock_timestamp());
    return null;
end $$;

create trigger backfill_jobs_inserted after insert on backfill_jobs
    referencing new table as changed_rows for each statement execute function backfill_record_changes();
create trigger backfill_jobs_updated after update on backfill_jobs
    referencing old table as old_rows new table as new_rows for each statement execute function backfill_record_updated_jobs();
create trigger backfill_jobs_deleted after delete on backfill_jobs
    referencing old table as changed_rows for each statement execute function backfill_record_changes();
create trigger backfill_jobs_truncated after truncate on backfill_jobs
    for each statement execute function backfill_record_truncated();
create trigger backfill_claims_inserted after insert on backfill_claims
    referencing new table as changed_rows for each statement execute function backfill_record_changes();
create trigger backfill_claims_updated after update on backfill_claims
    referencing new table as changed_rows for each statement execute function backfill_record_changes();
create trigger backfill_claims_deleted after delete on backfill_claims
    referencing old table as changed_rows for each statement execute function backfill_record_changes();
create trigger backfill_claims_truncated after truncate on backfill_claims
    for each statement execute function backfill_record_truncated();

-- Whoever may execute a trigger function may attach it to a table of its own, and write through it.
revoke execute on function backfill_record_changes from public;
revoke execute on function backfill_record_updated_jobs from public;
revoke execute on function backfill_record_truncated from public;
