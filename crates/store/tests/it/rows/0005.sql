-- Without the triggers, which would write into the outbox of an earlier migration.
set session_replication_role = replica;
insert into insight_feedback (id, insight_id, user_id, rating, rated_at, comment, commented_at, flag_type, flag_reason, flagged_at, created_at, updated_at)
values
    ('0195a1b2-0000-7000-8000-000000000011', 'insight-1', 'user-1', 5, '2025-03-02 10:00:00+00', 'well seen', '2025-03-02 10:01:00+00',
     null, null, null, '2025-03-02 10:00:00+00', '2025-03-02 10:01:00+00'),
    ('0195a1b2-0000-7000-8000-000000000012', 'insight-1', 'user-2', null, null, null, null,
     'spam', 'the same again', '2025-03-03 11:00:00.5+00', '2025-03-03 11:00:00.5+00', '2025-03-03 11:00:00.5+00');

insert into feedback_stats (insight_id, ratings_1, ratings_2, ratings_3, ratings_4, ratings_5, comments,
                            flags_inaccurate, flags_misleading, flags_spam, flags_inappropriate, flags_other)
values ('insight-2', 1, 0, 2, 30, 400, 7, 1, 0, 2, 0, 0);
insert into feedback_days values ('insight-2', '2025-03-01', 40, 190, 3, 1, 2);
insert into feedback_overall_days values ('2025-03-01', 140, 590, 13, 4, 2);
update feedback_fold set system_identifier = 7711240438124627972, stats_below = '741', days_below = '741';
insert into feedback_retired values ('insight-2', '2023-02-01', 0, 0, 1, 2, 3, 1, 0, 0, 0, 0, 1);
insert into feedback_history (insight_id, user_id, fact, rating, comment, flag_type, flag_reason, occurred_at) values
    ('insight-1', 'user-1', 'rating', 5, null, null, null, '2025-03-02 10:00:00+00'),
    ('insight-1', 'user-1', 'comment', null, 'well seen', null, null, '2025-03-02 10:01:00+00'),
    ('insight-1', 'user-2', 'flag', null, null, 'spam', 'the same again', '2025-03-03 11:00:00.5+00');
insert into feedback_deltas values ('insight-1', '742', 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0);
insert into feedback_day_deltas values ('insight-1', '2025-03-02', '742', 1, 5, 1, 0, 0);
set session_replication_role = origin;
