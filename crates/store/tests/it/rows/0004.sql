insert into cache_outbox (kind, key, x, written_at) values
    ('feedback_stats', 'insight-1', '741', '2025-03-02 01:00:00.000123+00'),
    ('feedback_stats', null, '742', '2025-03-02 01:00:01+00');

update cache_outbox_horizon set deleted_snapshot = '700:710:705', deleted_id = 0,
    marked_snapshot = '730:741:', marked_id = 1, marked_at = '2025-03-02 01:00:00+00';
