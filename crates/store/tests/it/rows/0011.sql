insert into alert_sources (source, observed_at) values ('backup', '2026-11-23 01:10:00+00');
insert into alerts (id, key, source, severity, title, detail, runbook, labels, opened_at, seen_at, escalated_at, resolved_at, acknowledged_at, acknowledged_by, note)
values ('0195a1b2-0000-7000-8000-0000000000b1', 'backup_late', 'backup', 'critical', 'no backup since yesterday', 'the last one began at 01:00', 'docs/operations/backups.md#late',
        '{"task": "make_backup"}', '2026-11-23 01:05:00+00', '2026-11-23 01:10:00+00', '2026-11-23 01:08:00+00', null, null, null, null),
       ('0195a1b2-0000-7000-8000-0000000000b2', 'backup_failed', 'backup', 'warning', 'a backup failed', '', '', '{}',
        '2026-11-22 01:05:00+00', '2026-11-22 01:30:00+00', null, '2026-11-22 01:31:00+00', '2026-11-22 01:10:00+00', 'cli: ann', 'on it');
insert into alert_deliveries (alert_id, sink, what, attempts, deliveries, failures, next_at, delivered_at, claimed_until, last_error)
values ('0195a1b2-0000-7000-8000-0000000000b1', 'log', 'firing', 1, 1, 0, '2026-11-23 02:05:00+00', '2026-11-23 01:05:00+00', null, null),
       ('0195a1b2-0000-7000-8000-0000000000b1', 'webhook', 'firing', 2, 0, 2, '2026-11-23 01:06:30+00', null, '2026-11-23 01:06:40+00', 'it answered 503'),
       ('0195a1b2-0000-7000-8000-0000000000b2', 'log', 'resolved', 1, 1, 0, null, '2026-11-22 01:31:00+00', null, null);
