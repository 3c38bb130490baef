insert into metric_services values ('api', '2025-03-01 10:00:00+00');
-- Without the triggers, which would write into the outbox of an earlier migration.
set session_replication_role = replica;
insert into metric_series (service_name, metric_type, unit, labels, created_at)
values ('api', 'cpu', 'percent', '{"host": "a", "zone": "b"}', '2025-03-01 10:00:00+00');
select metric_make_day('2025-03-01', '2025-03-01 00:00:00+00');
insert into system_metrics (series_id, sampled_at, value, metadata)
values (1, '2025-03-01 10:00:00.123456+00', 45.5, '{"a": {"b": [1, 2.5, null]}}'), (1, '2025-03-01 10:00:15+00', 46.25, null);
set session_replication_role = origin;
insert into metric_marks values (1, '2025-03-01 10:00:00+00');
insert into metric_rollups values (1, 1, '2025-03-01 10:00:00+00', 2, 91.75, 0, 45.5, '2025-03-01 10:00:00.123456+00', 46.25,
    '2025-03-01 10:00:15+00', 46.25, '2025-03-01 10:00:15+00', 45.5, 46.25, 46.25, '\x0102');
update metric_rollup_state set rolled_before = '2025-03-01 11:00:00+00', closing_before = '2025-03-01 11:00:00+00',
    closing_x = '742', system_identifier = 7711240438124627972;
select setval('metric_closing_hour', 483635);
update metric_days set verified_at = '2025-03-02 04:00:00+00';
insert into metric_requests values ('ci', 'retry-1', '\x00ff', '{"2025-03-01 10:00:00.123456+00"}', '2025-03-01 10:00:00+00');
