-- As it was: each row is asked whether it is held.
create or replace function slo_overdue(metrics_before date, jobs_before date, feedback_before date, gone_before date, ended_before timestamptz)
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

revoke execute on function slo_overdue from public;
grant execute on function slo_overdue to utxoiq_app;
