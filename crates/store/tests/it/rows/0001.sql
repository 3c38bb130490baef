insert into backfill_jobs
    (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at, attempt_covered_blocks,
     claim_epoch, external_id, created_by, error_message, started_at, progressed_at, heard_at, ended_at)
values
    ('8d0b0c8e-33f4-4f1d-9f0a-5a3c6f1f2a01', 'blocks', 800000, 809999, 'running', '{[800000,803500),[804000,804100)}', 2,
     '2025-03-01 09:00:00.123456+00', 1200, 7, null, 'operator', null, '2025-02-28 08:00:00+00',
     '2025-03-01 09:30:00+00', '2025-03-01 09:30:05+00', null),
    ('8d0b0c8e-33f4-4f1d-9f0a-5a3c6f1f2a02', 'reporter', 0, 9, 'failed', '{[0,4)}', 1, '2025-02-01 09:00:00+00', 0, 1,
     'nightly-7', null, 'worker lost', '2025-02-01 09:00:00+00', '2025-02-01 09:01:00+00', '2025-02-01 09:01:00+00',
     '2025-02-01 09:16:00+00');

insert into backfill_claims
    (id, job_id, attempt, epoch, worker, blocks, done, claimed_at, progressed_at, heartbeat_at, lease_expires_at)
values
    ('1f3a9d50-9c36-4d64-8d0b-4f5f1a7c3b11', '8d0b0c8e-33f4-4f1d-9f0a-5a3c6f1f2a01', 2, 7, 'host:4711', '[805000,806000)',
     '{[805000,805100)}', '2025-03-01 09:29:50+00', '2025-03-01 09:30:00+00', '2025-03-01 09:30:05+00',
     '2025-03-01 09:30:20+00');

insert into backfill_attempts (job_id, attempt, started_at, covered_blocks, ended_at, outcome, error_message)
values
    ('8d0b0c8e-33f4-4f1d-9f0a-5a3c6f1f2a01', 1, '2025-02-28 08:00:00+00', 0, '2025-02-28 09:00:00+00', 'failed', 'fetch.sh exited with 1'),
    ('8d0b0c8e-33f4-4f1d-9f0a-5a3c6f1f2a01', 2, '2025-03-01 09:00:00.123456+00', 1200, null, null, null);

insert into backfill_errors (job_id, attempt, blocks, worker, try, message, occurred_at)
values ('8d0b0c8e-33f4-4f1d-9f0a-5a3c6f1f2a01', 2, '[803500,803600)', 'host:4711', 3, 'fetch.sh exited with 1', '2025-03-01 09:29:00+00');

insert into backfill_checkpoints (job_id, block, block_hash, recorded_at)
values ('8d0b0c8e-33f4-4f1d-9f0a-5a3c6f1f2a01', 803499, '00000000000000000001a0e5c1b7fb2b0d3c6e9a', '2025-03-01 09:28:00+00');
