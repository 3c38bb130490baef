-- utxoiq: backward-compatible
-- Every role keeps what its statements need and loses the rest (docs/operations/roles.md has the table).
-- created: 2026-11-23T19:00:00Z
--
-- What a right cannot say, a trigger does: that what has ended is not written again. Whoever may act as the owner, as an
-- administrator or a function of retention's, is not held up by that. Deltas are folded by a function, so that the serving
-- role can neither delete one nor change a count.
--
-- The release before serves on it, but for two things, until it is replaced. It cannot fold: its task fold_feedback fails, deltas
-- stay, and its figures are right and take longer. And a reporter's script that starts again on a job that is over is answered 500
-- instead of being told so. Nothing is lost by either.

-- Nothing starts with a right of everybody.
alter default privileges revoke execute on functions from public;

create function refuse_to_rewrite() returns trigger
    language plpgsql set search_path = public, pg_temp as $$
begin
    if not pg_has_role(current_user, 'utxoiq_owner', 'usage') then
        raise insufficient_privilege using
            message = format('permission denied: rows of %s are not changed when they have ended', tg_table_name);
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    return new;
end $$;
comment on function refuse_to_rewrite is 'Attached with the condition under which only the owner changes a row.';

-- A job that was completed or cancelled is over; one that failed may be cancelled, or begin another attempt.
create trigger kept before update on backfill_jobs for each row
    when (old.status in ('completed', 'cancelled')
          or (old.status = 'failed' and new.status <> 'cancelled' and not (new.status = 'running' and new.attempt > old.attempt)))
    execute function refuse_to_rewrite();
create trigger kept before update on backfill_attempts for each row
    when (old.ended_at is not null) execute function refuse_to_rewrite();
create trigger kept before update on schedule_slots for each row
    when (old.state = 'succeeded' and old.* is distinct from new.*) execute function refuse_to_rewrite();
create trigger kept_from_deletion before delete on schedule_slots for each row
    when (old.state = 'running') execute function refuse_to_rewrite();
create trigger kept before update on alerts for each row
    when (old.resolved_at is not null) execute function refuse_to_rewrite();
create trigger kept_from_deletion before delete on alerts for each row
    when (old.resolved_at is null) execute function refuse_to_rewrite();
-- What a manifest says is written once. A backup that was stored can only be seen to be there, or go.
create trigger kept before update on backups for each row
    when (old.state = 'pruned'
          or (old.stored_at is not null
              and (new.plain_bytes is distinct from old.plain_bytes or new.stored_bytes is distinct from old.stored_bytes
                   or new.row_count is distinct from old.row_count or new.table_count is distinct from old.table_count
                   or new.sha256 is distinct from old.sha256 or new.manifest_sha256 is distinct from old.manifest_sha256
                   or new.schema_version is distinct from old.schema_version
                   or new.stored_at is distinct from old.stored_at or new.ended_at is distinct from old.ended_at
                   or (new.state <> old.state and new.state <> 'verified' and new.state <> 'pruned'))))
    execute function refuse_to_rewrite();
create trigger kept before update on backup_proofs for each row
    when (old.ended_at is not null) execute function refuse_to_rewrite();
create trigger kept before update on retention_runs for each row
    when (old.ended_at is not null) execute function refuse_to_rewrite();

-- Rollups of days whose samples have gone into cold storage are all that the database has of them. An hour or a day of such
-- a day is kept, and a week of which no day is open any more.
create function metric_rollups_are_kept() returns trigger
    language plpgsql set search_path = public, pg_temp as $$
begin
    if exists (
        select from (select distinct bucket, hours from changed_rows) r
        join metric_days gone on gone.state <> 'open'
            and gone.day between (r.bucket at time zone 'UTC')::date
                             and ((r.bucket + (r.hours - 1) * interval '1 hour') at time zone 'UTC')::date
        where not exists (
            select from metric_days here
            where here.state = 'open'
                and here.day between (r.bucket at time zone 'UTC')::date
                                 and ((r.bucket + (r.hours - 1) * interval '1 hour') at time zone 'UTC')::date)
    ) and not pg_has_role(current_user, 'utxoiq_owner', 'usage') then
        raise insufficient_privilege using message = 'permission denied: rollups of days that are archived are kept as they are';
    end if;
    return null;
end $$;
create trigger kept_by_insert after insert on metric_rollups
    referencing new table as changed_rows for each statement execute function metric_rollups_are_kept();
create trigger kept_by_update after update on metric_rollups
    referencing new table as changed_rows for each statement execute function metric_rollups_are_kept();
create trigger kept_by_delete after delete on metric_rollups
    referencing old table as changed_rows for each statement execute function metric_rollups_are_kept();

-- Moves at most so many visible deltas of each kind into the folded counts, unless another fold is under way. With fewer, all
-- that were visible are moved, and the bound is the snapshot's. Each statement of it has a snapshot of its own (READ
-- COMMITTED): the fold is taken in the first one, so that the later ones see all that the fold before did.
create function feedback_fold_part(at_most bigint, out skipped boolean, out deltas bigint, out day_deltas bigint)
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    bounds_hold boolean;
begin
    skipped := false;
    deltas := 0;
    day_deltas := 0;
    select f.system_identifier = (select c.system_identifier from pg_control_system() c) into bounds_hold
    from feedback_fold f for update of f skip locked;
    if not found then
        skipped := true;
        return;
    end if;
    -- Bounds of another cluster go, both at once: they share the identifier that says where they hold.
    if not bounds_hold then
        update feedback_fold
        set system_identifier = (select c.system_identifier from pg_control_system() c), stats_below = '0', days_below = '0';
    end if;

    with gone as (
        delete from feedback_deltas d
        where d.ctid = any (array(
            select o.ctid from feedback_deltas o
            where o.x >= (select stats_below from feedback_fold) order by o.x limit at_most))
        returning d.*),
    sums as (
        select insight_id, sum(ratings_1) as ratings_1, sum(ratings_2) as ratings_2, sum(ratings_3) as ratings_3,
               sum(ratings_4) as ratings_4, sum(ratings_5) as ratings_5, sum(comments) as comments,
               sum(flags_inaccurate) as flags_inaccurate, sum(flags_misleading) as flags_misleading,
               sum(flags_spam) as flags_spam, sum(flags_inappropriate) as flags_inappropriate,
               sum(flags_other) as flags_other
        from gone group by insight_id),
    folded as (
        insert into feedback_stats as s (insight_id, ratings_1, ratings_2, ratings_3, ratings_4, ratings_5, comments,
                                         flags_inaccurate, flags_misleading, flags_spam, flags_inappropriate, flags_other)
        select insight_id, ratings_1, ratings_2, ratings_3, ratings_4, ratings_5, comments,
               flags_inaccurate, flags_misleading, flags_spam, flags_inappropriate, flags_other
        from sums order by insight_id
        on conflict (insight_id) do update set
            ratings_1 = s.ratings_1 + excluded.ratings_1, ratings_2 = s.ratings_2 + excluded.ratings_2,
            ratings_3 = s.ratings_3 + excluded.ratings_3, ratings_4 = s.ratings_4 + excluded.ratings_4,
            ratings_5 = s.ratings_5 + excluded.ratings_5, comments = s.comments + excluded.comments,
            flags_inaccurate = s.flags_inaccurate + excluded.flags_inaccurate,
            flags_misleading = s.flags_misleading + excluded.flags_misleading,
            flags_spam = s.flags_spam + excluded.flags_spam,
            flags_inappropriate = s.flags_inappropriate + excluded.flags_inappropriate,
            flags_other = s.flags_other + excluded.flags_other),
    bounded as (
        update feedback_fold set stats_below = pg_snapshot_xmin(pg_current_snapshot())
        where (select count(*) from gone) < at_most)
    select count(*) into deltas from gone;

    with gone as (
        delete from feedback_day_deltas d
        where d.ctid = any (array(
            select o.ctid from feedback_day_deltas o
            where o.x >= (select days_below from feedback_fold) order by o.x limit at_most))
        returning d.*),
    folded as (
        insert into feedback_days as s (insight_id, day, ratings, rating_sum, comments, flags, withdrawals)
        select insight_id, day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals)
        from gone group by insight_id, day order by insight_id, day
        on conflict (insight_id, day) do update set
            ratings = s.ratings + excluded.ratings, rating_sum = s.rating_sum + excluded.rating_sum,
            comments = s.comments + excluded.comments, flags = s.flags + excluded.flags,
            withdrawals = s.withdrawals + excluded.withdrawals),
    folded_overall as (
        insert into feedback_overall_days as s (day, ratings, rating_sum, comments, flags, withdrawals)
        select day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals)
        from gone group by day order by day
        on conflict (day) do update set
            ratings = s.ratings + excluded.ratings, rating_sum = s.rating_sum + excluded.rating_sum,
            comments = s.comments + excluded.comments, flags = s.flags + excluded.flags,
            withdrawals = s.withdrawals + excluded.withdrawals),
    bounded as (
        update feedback_fold set days_below = pg_snapshot_xmin(pg_current_snapshot())
        where (select count(*) from gone) < at_most)
    select count(*) into day_deltas from gone;
end $$;
comment on function feedback_fold_part is 'Moves deltas of feedback into the folded counts.';
revoke execute on function feedback_fold_part from public;
grant execute on function feedback_fold_part to utxoiq_app;

revoke insert, update on feedback_stats, feedback_days, feedback_overall_days from utxoiq_app;
revoke delete on feedback_deltas, feedback_day_deltas from utxoiq_app;
revoke update (system_identifier, stats_below, days_below) on feedback_fold from utxoiq_app;

-- Whose feedback it is, on what, and since when, is not changed: that would leave no trace in the history. Its id is the
-- database's, so that none can be taken of a row that is archived.
revoke insert, update on insight_feedback from utxoiq_app;
grant insert (insight_id, user_id, rating, rated_at, comment, commented_at, flag_type, flag_reason, flagged_at, created_at, updated_at)
    on insight_feedback to utxoiq_app;
grant update (rating, rated_at, comment, commented_at, flag_type, flag_reason, flagged_at, updated_at) on insight_feedback to utxoiq_app;

revoke update on backfill_jobs, backfill_attempts, backfill_claims from utxoiq_app;
grant update (status, covered, attempt, attempt_started_at, attempt_covered_blocks, claim_epoch, error_message, paused_by,
              progressed_at, heard_at, implicit_heard_at, reported_covered_blocks, trusted_below, ended_at)
    on backfill_jobs to utxoiq_app;
grant update (ended_at, outcome, error_message) on backfill_attempts to utxoiq_app;
grant update (done, progressed_at, heartbeat_at, lease_expires_at) on backfill_claims to utxoiq_app;

revoke update on metric_rollups from utxoiq_app;
grant update (count, sum, sum_low, min, min_at, max, max_at, last, last_at, p50, p95, p99, sketch) on metric_rollups to utxoiq_app;

-- A run begins without an end. What is found in the store with its manifest is added as stored, and read back afterwards.
revoke insert, update on backups, backup_proofs from utxoiq_app;
grant insert (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes, row_count,
              table_count, sha256, manifest_sha256, schema_version, stored_at, ended_at)
    on backups to utxoiq_app;
grant insert (id, backup_id, started_at, started_by, lease_expires_at, target) on backup_proofs to utxoiq_app;
grant update (lease_expires_at, state, plain_bytes, stored_bytes, row_count, table_count, sha256, manifest_sha256, schema_version,
              stored_at, verified_at, copied_at, modified_at, damaged_at, ended_at, pruned_at, error)
    on backups to utxoiq_app;
grant update (lease_expires_at, ended_at, outcome, restore_milliseconds, compare_milliseconds, details, error)
    on backup_proofs to utxoiq_app;

revoke insert on retention_runs from utxoiq_retention;
grant insert (began_at, began_by, lease_expires_at) on retention_runs to utxoiq_retention;

-- Whoever writes a job computes its columns with these, and whoever reads the ranking its order.
grant execute on function backfill_block_count, backfill_current_block, backfill_percentage, backfill_projected_end,
    backfill_estimated_completion, feedback_lower_bound to utxoiq_app;
revoke execute on function backfill_block_count, backfill_current_block, backfill_percentage, backfill_projected_end,
    backfill_estimated_completion, feedback_lower_bound, feedback_read_stats, refuse_to_rewrite, metric_rollups_are_kept from public;

-- utxoiq: allow ownership because the audit log's functions have an owner of their own
set local role utxoiq_audit;
revoke execute on function audit_field, audit_hash from public;
alter default privileges revoke execute on functions from public;
-- utxoiq: allow ownership because the migrator goes on as who it was
set local role utxoiq_owner;
