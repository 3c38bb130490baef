-- The extension stays: other tables may use it, and it holds no data.
drop table backfill_checkpoints;
drop table backfill_errors;
drop table backfill_attempts;
drop table backfill_claims;
drop table backfill_jobs;
drop function backfill_estimated_completion;
drop function backfill_projected_end;
drop function backfill_percentage;
drop function backfill_current_block;
drop function backfill_block_count;
