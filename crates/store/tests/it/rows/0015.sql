insert into slo_facts (meter, width_seconds, bucket_at, instance, counts, worst)
values ('stats_read', 60, '2026-11-23 12:00Z', '00000000-0000-7000-8000-0000000000a1', '{900,90,9,1,0,0,0,0,0,0,0,0,0}', 4100),
       ('stats_read', 3600, '2026-11-23 12:00Z', '00000000-0000-7000-8000-0000000000a1', '{900,90,9,1,0,0,0,0,0,0,0,0,0}', 4100);
insert into slo_probes (id, started_at, started_by, lease_expires_at, ended_at, outcome, steps)
values ('00000000-0000-7000-8000-0000000000c1', '2026-11-23 12:00Z', 'schedule: check_criteria', '2026-11-23 12:01Z',
        '2026-11-23 12:00:05Z', 'ok', '[{"criterion": "C1.1", "step": "start a job", "ok": true, "message": "running", "took_milliseconds": 3}]');
insert into slo_states (criterion, state, since_at) values ('C1.1', 'met', '2026-11-23 12:00Z');
insert into slo_changes (criterion, state, changed_at, summary) values ('C1.1', 'met', '2026-11-23 12:00Z', 'a job was started');
