insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
    attempt_covered_blocks, claim_epoch, created_by, started_at, progressed_at, heard_at)
values ('0198c0de-0000-7000-8000-000000000001', 'blocks', 800000, 810000, 'running', '{[800000,805000),[806000,806100)}', 2,
    '2026-01-02T00:00:00Z', 100, 7, 'admin@utxoiq.com', '2026-01-01T00:00:00Z', '2026-01-02T01:00:00Z', '2026-01-02T01:00:00Z');
insert into backfill_claims (id, job_id, attempt, epoch, worker, blocks, done, claimed_at, heartbeat_at, lease_expires_at)
values ('0198c0de-0000-7000-8000-000000000002', '0198c0de-0000-7000-8000-000000000001', 2, 7, 'worker-1', '[807000,807400)',
    '{[807000,807100)}', '2026-01-02T01:00:00Z', '2026-01-02T01:00:05Z', '2026-01-02T01:00:20Z');
insert into backfill_attempts (job_id, attempt, started_at, covered_blocks, ended_at, outcome, error_message)
values ('0198c0de-0000-7000-8000-000000000001', 1, '2026-01-01T00:00:00Z', 0, '2026-01-01T01:00:00Z', 'failed', 'rpc timeout');
insert into backfill_errors (job_id, attempt, blocks, worker, try, message, occurred_at)
values ('0198c0de-0000-7000-8000-000000000001', 2, '[807100,807200)', 'worker-1', 1, 'exit status 1', '2026-01-02T01:00:03Z');
insert into backfill_checkpoints (job_id, block, block_hash, recorded_at)
values ('0198c0de-0000-7000-8000-000000000001', 804999, '00000000000000000002c0de', '2026-01-02T00:30:00Z');
