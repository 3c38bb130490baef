insert into retention_runs (began_at, began_by, lease_expires_at, ended_at, outcome, results)
values ('2026-11-22 02:00:00+00', 'schedule: run_retention', '2026-11-22 02:02:00+00', '2026-11-22 02:00:31.5+00', 'success', '{"archived": []}');
insert into legal_holds (id, scope, dataset, first_day, last_day, user_id, insight_id, reason, placed_by, placed_at, expires_at)
values ('0195a1b2-0000-7000-8000-000000000091', 'day', 'metrics', '2026-01-01', '2026-01-31', null, null, 'outage report', 'cli: ann', '2026-11-01 10:00:00+00', '2027-11-01 10:00:00+00'),
       ('0195a1b2-0000-7000-8000-000000000092', 'user', null, null, null, 'user-7', null, 'case 12', 'cli: ann', '2026-11-01 10:00:00+00', null);
insert into archives (id, dataset, day, part, state, object_key, day_verified_at, began_at, rows, bytes, sha256, content_sha256, manifest, proved_at, detached_at, archived_at)
values ('0195a1b2-0000-7000-8000-000000000093', 'metrics', '2026-08-01', 0, 'archived', 'metrics/day=2026-08-01/part-0000-0195a1b2000070008000000000000093.parquet',
        '2026-08-03 03:30:00+00', '2026-11-01 02:00:00+00', 3, 4000, decode(repeat('ab', 32), 'hex'), decode(repeat('cd', 32), 'hex'), '{}',
        '2026-11-01 02:00:01+00', '2026-11-01 02:00:02+00', '2026-11-01 02:00:03+00'),
       ('0195a1b2-0000-7000-8000-000000000094', 'metrics', '2026-08-02', 0, 'writing', 'metrics/day=2026-08-02/part-0000-0195a1b2000070008000000000000094.parquet',
        '2026-08-04 03:30:00+00', '2026-11-02 02:00:00+00', null, null, null, null, null, null, null, null);
insert into feedback_erasures (id, user_id, pseudonym, requested_at, requested_by, feedback_rows, history_rows)
values ('0195a1b2-0000-7000-8000-000000000095', 'user-8', 'p:0011', '2026-11-02 02:00:00+00', 'cli: ann', 3, 5);
