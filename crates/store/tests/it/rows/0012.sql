insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes, row_count,
                     table_count, sha256, manifest_sha256, schema_version, stored_at, verified_at, copied_at, modified_at, ended_at,
                     pruned_at)
values ('00000000-0000-7000-8000-0000000000b1', '2025-01-01 01:00Z', '2025-01-01 01:00:01Z', 'schedule: make_backup',
        '2025-01-01 01:05Z', 'pruned', 'backups/20250101T010001Z-000000000000700080000000000000b1.dump.age', 1000, 100, 10, 3,
        decode(repeat('ab', 32), 'hex'), decode(repeat('cd', 32), 'hex'), 12, '2025-01-01 01:02Z', '2025-01-01 01:03Z',
        '2025-01-01 01:04Z', '2025-01-01 01:02Z', '2025-01-01 01:02Z', '2025-02-09 01:00Z');
insert into backup_proofs (id, backup_id, started_at, started_by, lease_expires_at, target, ended_at, outcome, restore_milliseconds,
                           compare_milliseconds, details)
values ('00000000-0000-7000-8000-0000000000b2', '00000000-0000-7000-8000-0000000000b1', '2025-01-05 03:30Z', 'schedule: prove_backup',
        '2025-01-05 03:35Z', 'db.example:5432/utxoiq_drill_1', '2025-01-05 03:34Z', 'proved', 1000, 100, '{"tables": 3}');
