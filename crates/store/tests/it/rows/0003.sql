insert into schedule_tasks (task, cadence, first_seen_at, epoch)
values ('nightly_backup', 'daily at 01:00 UTC', '2025-03-01 09:00:00.123456+00', 3);

insert into schedule_slots
    (task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at, lease_expires_at, finished_at, retry_at, outcome, error)
values
    ('nightly_backup', '2025-03-02 01:00:00+00', false, 'succeeded', 2, 'host:1234', 2, 0, '2025-03-02 01:02:00+00',
     '2025-03-02 01:04:00+00', null, '2025-03-02 01:04:07.5+00', null, '{"bytes": 1024}', 'the database does not answer'),
    ('nightly_backup', '2025-03-03 01:00:00+00', false, 'running', 3, 'host:1234', 1, 0, '2025-03-03 01:00:00+00',
     '2025-03-03 01:00:20+00', '2025-03-03 01:01:20+00', null, null, null, null);
