select audit_append('2025-03-01 10:00:00.123456+00', 'retention', 'archive', 'metrics 2025-03-01', '{"rows": 2, "manifest": "d9"}');
select audit_append('2025-03-01 10:00:01+00', 'operator', 'hold_add', 'metrics 2025-03-02', '{}');
