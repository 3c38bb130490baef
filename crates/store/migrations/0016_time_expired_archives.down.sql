-- As it was: by the time at which the run began.
create or replace function archive_expire(of_run bigint, of_archive uuid, given jsonb, why text, at timestamptz, actor text) returns void
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

revoke execute on function archive_expire from public;
grant execute on function archive_expire to utxoiq_retention;
