-- utxoiq: backward-compatible
-- What is overdue is looked for between the days that are held, instead of asking each row whether it is: years of feedback
-- under a hold were read row by row, beyond the time that the criteria have, so that nobody could say whether data left on time.
-- created: 2026-11-24T12:30:00Z
create or replace function slo_overdue(metrics_before date, jobs_before date, feedback_before date, gone_before date, ended_before timestamptz)
    returns table (what text, due bigint, oldest date)
    language sql stable security definer set search_path = public, pg_temp
as $$
    -- The time before each limit that no day's hold covers.
    with free as (
        select f.dataset, coalesce(lower(f.days)::timestamp, '-infinity') at time zone 'UTC' as since,
               upper(f.days)::timestamp at time zone 'UTC' as until
        from (select due.dataset, unnest(datemultirange(daterange(null, due.before)) - coalesce(held.days, '{}')) as days
              from (values ('backfill_jobs', jobs_before), ('feedback', feedback_before), ('feedback_history', feedback_before))
                       as due (dataset, before)
              cross join lateral (select range_agg(daterange(h.first_day, h.last_day, '[]')) as days
                                  from legal_holds h
                                  where h.scope = 'day' and (h.dataset is null or h.dataset = due.dataset)) held) f)
    select 'metrics', count(*), min(d.day)
    from (select m.day from metric_days m
          where m.state in ('open', 'detached') and m.day < metrics_before and not archive_day_is_held('metrics', m.day)
          order by m.day limit 1000) d
    union all
    select 'backfill_jobs', count(*), min((d.ended_at at time zone 'UTC')::date)
    from (select j.ended_at
          from free cross join lateral (
              select j.ended_at from backfill_jobs j
              where j.ended_at >= free.since and j.ended_at < free.until
              order by j.ended_at limit 1000) j
          where free.dataset = 'backfill_jobs'
          order by j.ended_at limit 1000) d
    union all
    select 'feedback', count(*), min((d.updated_at at time zone 'UTC')::date)
    from (select f.updated_at
          from free cross join lateral (
              select f.updated_at from insight_feedback f
              where f.updated_at >= free.since and f.updated_at < free.until
                    and f.user_id not in (select l.user_id from legal_holds l where l.scope = 'user')
                    and f.insight_id not in (select l.insight_id from legal_holds l where l.scope = 'insight')
              order by f.updated_at limit 1000) f
          where free.dataset = 'feedback'
          order by f.updated_at limit 1000) d
    union all
    select 'feedback_history', count(*), min((d.occurred_at at time zone 'UTC')::date)
    from (select h.occurred_at
          from free cross join lateral (
              select h.occurred_at from feedback_history h
              where h.occurred_at >= free.since and h.occurred_at < free.until
                    and h.user_id not in (select l.user_id from legal_holds l where l.scope = 'user')
                    and h.insight_id not in (select l.insight_id from legal_holds l where l.scope = 'insight')
              order by h.occurred_at limit 1000) h
          where free.dataset = 'feedback_history'
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
