-- What is hard to carry over: many rows, letters of all kinds, nothing, numbers at the ends of their ranges, several partitions.
insert into insight_feedback (id, insight_id, user_id, rating, rated_at, comment, commented_at, created_at, updated_at)
select gen_random_uuid(), 'insight ' || n % 50, 'user ' || n, n % 5 + 1, timestamptz '2026-03-01' + n * interval '1 s',
       case when n % 7 = 0 then E'₿ "quoted"\\back\tslash\nline 😀 \u0001 é' || n end,
       case when n % 7 = 0 then timestamptz '2026-03-01' + n * interval '1 s' end,
       timestamptz '2026-03-01' + n * interval '1 s', timestamptz '2026-03-01' + n * interval '1 s'
from generate_series(1, 5000) as n;

insert into metric_services values ('dienst-ß', '2026-02-27 00:00:00+00');
insert into metric_series (service_name, metric_type, unit, labels, created_at)
select 'dienst-ß', 'tempo_' || n, '', jsonb_build_object('host', 'ñ' || n, 'leer', ''), '2026-02-27 00:00:00+00'
from generate_series(1, 5) as n;
select metric_make_day(day::date, day) from generate_series(timestamptz '2026-02-27', '2026-03-03', '1 day') as day;
insert into system_metrics (series_id, sampled_at, value, metadata)
select s.id, t, case extract(minute from t)::int % 4 when 0 then 0.1::float8 + 0.2::float8 when 1 then 1e-300 when 2 then -1e300 else 5 end,
       case when extract(minute from t)::int % 10 = 0 then '{"text": "日本\u0007", "number": 1e400}'::jsonb end
from metric_series s, generate_series(timestamptz '2026-02-27', '2026-03-02 12:00', '10 minutes') as t
where s.service_name = 'dienst-ß';
insert into metric_rollups values
    (1, 24, '2026-02-27 00:00:00+00', 1, 'NaN', '-0', '-Infinity', '2026-02-27 00:00:00+00', 'Infinity', '2026-02-27 23:59:59.999999+00',
     '-0', '2026-02-27 00:00:00+00', 4.9e-324, 1.7976931348623157e308, 0, ''),
    (1, 168, '2026-02-23 00:00:00+00', 1, 0, 0, 0, '2026-02-27 00:00:00+00', 0, '-infinity', 0, 'infinity', 0, 0, 0, '\x00ff');

insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
    attempt_covered_blocks, claim_epoch, started_at, progressed_at, heard_at, ended_at, error_message)
select gen_random_uuid(), 'empty ' || n, 0, 9, 'failed', '{}', 1, '2026-02-01', 0, 0, '2026-02-01', '2026-02-01', '2026-02-01',
       '2026-02-02', E'first line\nsecond \\. line'
from generate_series(1, 20) as n;
select audit_append(timestamptz '2026-02-01' + n * interval '1 s', 'retention', 'archive', 'metrics ' || n, '{"text": "zażółć"}')
from generate_series(1, 100) as n;
