-- utxoiq: allow ownership because the audit log's functions have an owner of their own
set local role utxoiq_audit;
alter default privileges grant execute on functions to public;
-- utxoiq: allow grant-to-public because that is what was there before
grant execute on function audit_field, audit_hash to public;
-- utxoiq: allow ownership because the migrator goes on as who it was
set local role utxoiq_owner;
-- utxoiq: allow grant-to-public because that is what was there before
grant execute on function backfill_block_count, backfill_current_block, backfill_percentage, backfill_projected_end,
    backfill_estimated_completion, feedback_lower_bound, feedback_read_stats to public;
revoke execute on function backfill_block_count, backfill_current_block, backfill_percentage, backfill_projected_end,
    backfill_estimated_completion, feedback_lower_bound from utxoiq_app;

revoke insert (began_at, began_by, lease_expires_at) on retention_runs from utxoiq_retention;
grant insert on retention_runs to utxoiq_retention;

revoke update (lease_expires_at, ended_at, outcome, restore_milliseconds, compare_milliseconds, details, error)
    on backup_proofs from utxoiq_app;
revoke update (lease_expires_at, state, plain_bytes, stored_bytes, row_count, table_count, sha256, manifest_sha256, schema_version,
               stored_at, verified_at, copied_at, modified_at, damaged_at, ended_at, pruned_at, error)
    on backups from utxoiq_app;
revoke insert (id, backup_id, started_at, started_by, lease_expires_at, target) on backup_proofs from utxoiq_app;
revoke insert (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes, row_count,
               table_count, sha256, manifest_sha256, schema_version, stored_at, ended_at)
    on backups from utxoiq_app;
grant insert, update on backups, backup_proofs to utxoiq_app;

revoke update (count, sum, sum_low, min, min_at, max, max_at, last, last_at, p50, p95, p99, sketch) on metric_rollups from utxoiq_app;
grant update on metric_rollups to utxoiq_app;

revoke update (done, progressed_at, heartbeat_at, lease_expires_at) on backfill_claims from utxoiq_app;
revoke update (ended_at, outcome, error_message) on backfill_attempts from utxoiq_app;
revoke update (status, covered, attempt, attempt_started_at, attempt_covered_blocks, claim_epoch, error_message, paused_by,
               progressed_at, heard_at, implicit_heard_at, reported_covered_blocks, trusted_below, ended_at)
    on backfill_jobs from utxoiq_app;
grant update on backfill_jobs, backfill_attempts, backfill_claims to utxoiq_app;

revoke update (rating, rated_at, comment, commented_at, flag_type, flag_reason, flagged_at, updated_at) on insight_feedback from utxoiq_app;
revoke insert (insight_id, user_id, rating, rated_at, comment, commented_at, flag_type, flag_reason, flagged_at, created_at, updated_at)
    on insight_feedback from utxoiq_app;
grant insert, update on insight_feedback to utxoiq_app;

grant update (system_identifier, stats_below, days_below) on feedback_fold to utxoiq_app;
grant delete on feedback_deltas, feedback_day_deltas to utxoiq_app;
grant insert, update on feedback_stats, feedback_days, feedback_overall_days to utxoiq_app;
drop function feedback_fold_part;

drop trigger kept_by_delete on metric_rollups;
drop trigger kept_by_update on metric_rollups;
drop trigger kept_by_insert on metric_rollups;
drop function metric_rollups_are_kept;

drop trigger kept on retention_runs;
drop trigger kept on backup_proofs;
drop trigger kept on backups;
drop trigger kept_from_deletion on alerts;
drop trigger kept on alerts;
drop trigger kept_from_deletion on schedule_slots;
drop trigger kept on schedule_slots;
drop trigger kept on backfill_attempts;
drop trigger kept on backfill_jobs;
drop function refuse_to_rewrite;

alter default privileges grant execute on functions to public;
