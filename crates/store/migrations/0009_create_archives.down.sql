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

drop function metric_guard_partition;
drop function token_end_expired;
drop function feedback_finish_erasure;
drop function feedback_erase_hot;
drop function feedback_begin_erasure;
drop function feedback_refuse_held;
drop function feedback_is_held;
drop function archive_restore_day;
drop function archive_restore_day_begin;
drop function archive_children;
drop function archive_restore_rows;
drop function archive_end_restored;
drop function retention_release_hold;
drop function retention_place_hold;
drop function archive_replace;
drop function archive_expire;
drop function archive_retire_feedback;
drop function archive_delete_rows;
drop function archive_attach_day;
drop function archive_drop_day;
drop function archive_detach_day;
drop function archive_refuse;
drop function archive_day_obstacle;
drop function archive_note_removed;
drop function archive_abandon;
drop function archive_prove;
drop function archive_begin;
drop function archive_audit;
drop function archive_in_state;
drop function archive_check_run;
drop function archive_digest_given;
drop function archive_digest_samples;
drop function archive_digest_rows;
drop function archive_keys;
drop view archive_backfill_jobs;
drop view archive_feedback_history;
drop view archive_feedback;
drop function archive_is_held;
drop function archive_day_is_held_by_law;
drop function archive_day_is_held;
drop function archive_time;
drop table feedback_erasures;
drop table archives;
drop table legal_holds;
drop table retention_runs;
revoke select on metric_rollups, metric_days, metric_series, system_metrics, feedback_retired from utxoiq_retention;
alter table insight_feedback drop constraint insight_feedback_updated_in_range;
alter table feedback_history drop constraint feedback_history_occurred_in_range;
alter table backfill_jobs drop constraint backfill_jobs_ended_in_range;
