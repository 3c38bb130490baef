-- Feedback of users on insights: the current state, its history, and exact statistics (C2.1 to C2.5).
-- created: 2026-11-23T06:05:00Z
--
-- insight_feedback has one row a user and insight: the user's present rating, comment and flag, each with its own time.
-- What every act was is in feedback_history, which only grows. Triggers keep both together and keep the statistics, so
-- that they hold for whoever writes, psql included.
--
-- A counter row for each insight would be a queue: every rating of a hot insight waits for the one before. So a write
-- appends what it changes (feedback_deltas), one row for each insight and statement, and a fold moves the deltas into
-- feedback_stats from time to time. Statistics are the folded row plus the open deltas, read in one statement: whichever
-- snapshot a reader has, it sees each delta exactly once, as the fold moves them in one transaction.
--
-- Deltas of a folded transaction are deleted, but a snapshot held elsewhere (a backup) keeps their dead index entries. The
-- reader skips them by their transaction: feedback_fold says below which one everything is folded.

create table insight_feedback (
    id           uuid        not null default gen_random_uuid(),
    insight_id   text        not null,
    user_id      text        not null,
    rating       smallint,
    rated_at     timestamptz,
    comment      text,
    commented_at timestamptz,
    flag_type    text,
    flag_reason  text,
    flagged_at   timestamptz,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    constraint insight_feedback_pkey primary key (id),
    constraint insight_feedback_one_per_user unique (insight_id, user_id),
    constraint insight_feedback_insight_id_length check (char_length(insight_id) between 1 and 100),
    constraint insight_feedback_user_id_length check (char_length(user_id) between 1 and 100),
    constraint insight_feedback_rating_range check (rating between 1 and 5),
    constraint insight_feedback_comment_length check (char_length(comment) between 1 and 1000),
    constraint insight_feedback_flag_type_known check (flag_type in ('inaccurate', 'misleading', 'spam', 'inappropriate', 'other')),
    constraint insight_feedback_flag_reason_length check (char_length(flag_reason) between 1 and 500),
    constraint insight_feedback_reason_of_a_flag check (flag_reason is null or flag_type is not null),
    constraint insight_feedback_times_of_facts check (
        (rating is null) = (rated_at is null) and (comment is null) = (commented_at is null)
        and (flag_type is null) = (flagged_at is null)),
    constraint insight_feedback_updated_after_creation check (updated_at >= created_at),
    -- psql could write the end of time, which cannot be shown, and after which there is no later change.
    constraint insight_feedback_times_are_finite check (
        isfinite(created_at) and isfinite(rated_at) and isfinite(commented_at) and isfinite(flagged_at)
        and updated_at < '10000-01-01 00:00:00+00')
);
-- A search begins at the condition that leaves the fewest rows: user, insight and flag, insight and comment, insight and
-- rating, insight, flag, comment, rating, time. Each of these has an index in the order of the last change, so that a page
-- and a count read no rows that the condition leaves out. What few rows have costs the others nothing: these are partial.
create index insight_feedback_updated_idx on insight_feedback (updated_at desc, id desc);
create index insight_feedback_user_updated_idx on insight_feedback (user_id, updated_at desc, id desc);
create index insight_feedback_insight_updated_idx on insight_feedback (insight_id, updated_at desc, id desc);
create index insight_feedback_insight_rating_idx on insight_feedback (insight_id, rating, updated_at desc, id desc) where rating is not null;
create index insight_feedback_rating_updated_idx on insight_feedback (rating, updated_at desc, id desc);
create index insight_feedback_insight_commented_idx on insight_feedback (insight_id, updated_at desc, id desc) where comment is not null;
create index insight_feedback_commented_idx on insight_feedback (updated_at desc, id desc) where comment is not null;
create index insight_feedback_flag_type_idx on insight_feedback (flag_type, updated_at desc, id desc) where flag_type is not null;
create index insight_feedback_flagged_idx on insight_feedback (updated_at desc, id desc) where flag_type is not null;
-- The comments of an insight in the order in which they were written, and the flags of each insight for the review queue.
create index insight_feedback_comments_idx on insight_feedback (insight_id, commented_at desc, id desc) where comment is not null;
create index insight_feedback_insight_flagged_idx on insight_feedback (insight_id, flagged_at desc, id desc) include (flag_type) where flag_type is not null;

-- A plan is kept for all values, so it is made for the insights and users that have many rows, not for the average one, for
-- which gathering and sorting its few seems as good.
alter table insight_feedback alter column insight_id set (n_distinct = 10), alter column user_id set (n_distinct = 10);

create table feedback_history (
    id          bigint      generated always as identity,
    insight_id  text        not null,
    user_id     text        not null,
    -- Which of the three facts; all its values null: it was withdrawn.
    fact        text        not null,
    rating      smallint,
    comment     text,
    flag_type   text,
    flag_reason text,
    occurred_at timestamptz not null,
    constraint feedback_history_pkey primary key (id),
    constraint feedback_history_fact_known check (fact in ('rating', 'comment', 'flag')),
    constraint feedback_history_only_its_fact check (
        (fact = 'rating' or rating is null) and (fact = 'comment' or comment is null)
        and (fact = 'flag' or (flag_type is null and flag_reason is null)))
);
create index feedback_history_user_idx on feedback_history (user_id, id);
create index feedback_history_occurred_idx on feedback_history (occurred_at);
alter table feedback_history alter column user_id set (n_distinct = 10);

-- The lower end of the 90 % interval of the mean rating under a Dirichlet posterior that begins with one rating of each
-- value (Evan Miller, "Ranking Items With Star Ratings", 2014; z = 1.65): few ratings rank low however good they are.
-- A count may be below zero for a moment, where a fold in parts takes a withdrawal before what was withdrawn: a root that
-- does not exist would then stop all folding. Mean and mean square stand there as often as they are used: only a plain
-- expression is put in the place of its call, which else takes ten times as long.
create function feedback_lower_bound(r1 bigint, r2 bigint, r3 bigint, r4 bigint, r5 bigint) returns double precision
    language sql immutable parallel safe
    return (15 + r1 + 2 * r2 + 3 * r3 + 4 * r4 + 5 * r5) / (greatest(r1 + r2 + r3 + r4 + r5, 0)::float8 + 5)
           - 1.65 * sqrt(greatest((55 + r1 + 4 * r2 + 9 * r3 + 16 * r4 + 25 * r5) / (greatest(r1 + r2 + r3 + r4 + r5, 0)::float8 + 5)
                                  - ((15 + r1 + 2 * r2 + 3 * r3 + 4 * r4 + 5 * r5) / (greatest(r1 + r2 + r3 + r4 + r5, 0)::float8 + 5))
                                    * ((15 + r1 + 2 * r2 + 3 * r3 + 4 * r4 + 5 * r5) / (greatest(r1 + r2 + r3 + r4 + r5, 0)::float8 + 5)), 0)
                         / (greatest(r1 + r2 + r3 + r4 + r5, 0)::float8 + 6));

create table feedback_stats (
    insight_id         text   not null,
    ratings_1          bigint not null,
    ratings_2          bigint not null,
    ratings_3          bigint not null,
    ratings_4          bigint not null,
    ratings_5          bigint not null,
    comments           bigint not null,
    flags_inaccurate   bigint not null,
    flags_misleading   bigint not null,
    flags_spam         bigint not null,
    flags_inappropriate bigint not null,
    flags_other        bigint not null,
    total_ratings      bigint generated always as (ratings_1 + ratings_2 + ratings_3 + ratings_4 + ratings_5) stored,
    lower_bound        double precision generated always as (
        feedback_lower_bound(ratings_1, ratings_2, ratings_3, ratings_4, ratings_5)) stored,
    constraint feedback_stats_pkey primary key (insight_id)
) with (fillfactor = 80);
create index feedback_stats_lower_bound_idx on feedback_stats (lower_bound desc, insight_id) where total_ratings > 0;

create table feedback_deltas (
    insight_id         text    not null,
    x                  xid8    not null,
    ratings_1          integer not null,
    ratings_2          integer not null,
    ratings_3          integer not null,
    ratings_4          integer not null,
    ratings_5          integer not null,
    comments           integer not null,
    flags_inaccurate   integer not null,
    flags_misleading   integer not null,
    flags_spam         integer not null,
    flags_inappropriate integer not null,
    flags_other        integer not null
);
create index feedback_deltas_insight_idx on feedback_deltas (insight_id, x);
create index feedback_deltas_x_idx on feedback_deltas (x);
-- Not cut when it is empty: for a table without pages a plan is made that reads all of it, and kept when it has grown.
alter table feedback_deltas set (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000, vacuum_truncate = off);

-- What users did on each day (UTC), also where it was changed or withdrawn later: a rating counts on the day it was given.
create table feedback_days (
    insight_id  text   not null,
    day         date   not null,
    ratings     bigint not null,
    rating_sum  bigint not null,
    comments    bigint not null,
    flags       bigint not null,
    withdrawals bigint not null,
    constraint feedback_days_pkey primary key (insight_id, day)
) with (fillfactor = 80);

create table feedback_overall_days (
    day         date   not null,
    ratings     bigint not null,
    rating_sum  bigint not null,
    comments    bigint not null,
    flags       bigint not null,
    withdrawals bigint not null,
    constraint feedback_overall_days_pkey primary key (day)
) with (fillfactor = 80);

create table feedback_day_deltas (
    insight_id  text    not null,
    day         date    not null,
    x           xid8    not null,
    ratings     integer not null,
    rating_sum  integer not null,
    comments    integer not null,
    flags       integer not null,
    withdrawals integer not null
);
create index feedback_day_deltas_x_idx on feedback_day_deltas (x);
alter table feedback_day_deltas set (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000, vacuum_truncate = off);

-- One row: every delta of a transaction below these is folded. Transactions are numbered anew when the database is
-- restored into another cluster, so the bounds hold only on the cluster that they name; elsewhere all deltas are read.
create table feedback_fold (
    only_one          boolean not null,
    system_identifier bigint  not null,
    stats_below       xid8    not null,
    days_below        xid8    not null,
    constraint feedback_fold_pkey primary key (only_one),
    constraint feedback_fold_is_one_row check (only_one)
) with (fillfactor = 10);
insert into feedback_fold values (true, 0, '0', '0');

-- What retention has removed, summed by insight and day of the removed rows, without users.
create table feedback_retired (
    insight_id         text   not null,
    day                date   not null,
    ratings_1          bigint not null,
    ratings_2          bigint not null,
    ratings_3          bigint not null,
    ratings_4          bigint not null,
    ratings_5          bigint not null,
    comments           bigint not null,
    flags_inaccurate   bigint not null,
    flags_misleading   bigint not null,
    flags_spam         bigint not null,
    flags_inappropriate bigint not null,
    flags_other        bigint not null,
    constraint feedback_retired_pkey primary key (insight_id, day)
);

-- The statistics of insights, exact in the caller's snapshot: folded counts plus open deltas, and what retention removed.
-- It is a function for its settings: a plan is kept for the session, and one made while a table was small or empty would
-- read the whole of it when it has grown; and a plan that looks dear is not to be compiled. Tables are read in the order in
-- which TRUNCATE locks them.
create function feedback_read_stats(insight_ids text[])
    returns table (insight_id text, live bigint[], retired bigint[], open_deltas bigint)
    language plpgsql stable set search_path = public, pg_temp set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
begin
    return query
    select w.insight_id,
           array[coalesce(s.ratings_1, 0) + d.ratings_1, coalesce(s.ratings_2, 0) + d.ratings_2,
                 coalesce(s.ratings_3, 0) + d.ratings_3, coalesce(s.ratings_4, 0) + d.ratings_4,
                 coalesce(s.ratings_5, 0) + d.ratings_5, coalesce(s.comments, 0) + d.comments,
                 coalesce(s.flags_inaccurate, 0) + d.flags_inaccurate, coalesce(s.flags_misleading, 0) + d.flags_misleading,
                 coalesce(s.flags_spam, 0) + d.flags_spam, coalesce(s.flags_inappropriate, 0) + d.flags_inappropriate,
                 coalesce(s.flags_other, 0) + d.flags_other],
           array[r.ratings_1, r.ratings_2, r.ratings_3, r.ratings_4, r.ratings_5, r.comments,
                 r.flags_inaccurate, r.flags_misleading, r.flags_spam, r.flags_inappropriate, r.flags_other],
           d.open_deltas
    from unnest(insight_ids) with ordinality as w(insight_id, n)
    left join lateral (select * from feedback_stats where insight_id = w.insight_id limit 1) s on true
    cross join lateral (
        select count(*) as open_deltas,
               coalesce(sum(ratings_1), 0) as ratings_1, coalesce(sum(ratings_2), 0) as ratings_2,
               coalesce(sum(ratings_3), 0) as ratings_3, coalesce(sum(ratings_4), 0) as ratings_4,
               coalesce(sum(ratings_5), 0) as ratings_5, coalesce(sum(comments), 0) as comments,
               coalesce(sum(flags_inaccurate), 0) as flags_inaccurate, coalesce(sum(flags_misleading), 0) as flags_misleading,
               coalesce(sum(flags_spam), 0) as flags_spam, coalesce(sum(flags_inappropriate), 0) as flags_inappropriate,
               coalesce(sum(flags_other), 0) as flags_other
        from feedback_deltas
        where insight_id = w.insight_id
              and x >= coalesce((select case when system_identifier = (select c.system_identifier from pg_control_system() c)
                                             then stats_below end from feedback_fold where only_one), '0')) d
    cross join lateral (
        select coalesce(sum(ratings_1), 0)::bigint as ratings_1, coalesce(sum(ratings_2), 0)::bigint as ratings_2,
               coalesce(sum(ratings_3), 0)::bigint as ratings_3, coalesce(sum(ratings_4), 0)::bigint as ratings_4,
               coalesce(sum(ratings_5), 0)::bigint as ratings_5, coalesce(sum(comments), 0)::bigint as comments,
               coalesce(sum(flags_inaccurate), 0)::bigint as flags_inaccurate,
               coalesce(sum(flags_misleading), 0)::bigint as flags_misleading, coalesce(sum(flags_spam), 0)::bigint as flags_spam,
               coalesce(sum(flags_inappropriate), 0)::bigint as flags_inappropriate,
               coalesce(sum(flags_other), 0)::bigint as flags_other
        from feedback_retired where insight_id = w.insight_id) r
    order by w.n;
end $$;

-- A writer that gives no time (psql) gets the database's. The program always gives one, and each of its updates has a later
-- time than the one before, so that for its writes only the conditions are looked at.
create function feedback_fill_times() returns trigger
    language plpgsql set search_path = public, pg_temp as $$
declare
    at constant timestamptz := clock_timestamp();
begin
    if tg_op = 'INSERT' then
        new.created_at := coalesce(new.created_at, new.updated_at, at);
        new.updated_at := coalesce(new.updated_at, greatest(new.created_at, at));
        if new.rating is not null then new.rated_at := coalesce(new.rated_at, new.updated_at); end if;
        if new.comment is not null then new.commented_at := coalesce(new.commented_at, new.updated_at); end if;
        if new.flag_type is not null then new.flagged_at := coalesce(new.flagged_at, new.updated_at); end if;
        return new;
    end if;
    if new.updated_at is not distinct from old.updated_at then new.updated_at := greatest(at, old.updated_at + interval '1 microsecond'); end if;
    if new.rating is distinct from old.rating and new.rated_at is not distinct from old.rated_at then
        new.rated_at := case when new.rating is not null then new.updated_at end;
    end if;
    if new.comment is distinct from old.comment and new.commented_at is not distinct from old.commented_at then
        new.commented_at := case when new.comment is not null then new.updated_at end;
    end if;
    if new.flag_type is null then new.flag_reason := null; end if;
    if (new.flag_type, new.flag_reason) is distinct from (old.flag_type, old.flag_reason)
       and new.flagged_at is not distinct from old.flagged_at then
        new.flagged_at := case when new.flag_type is not null then new.updated_at end;
    end if;
    return new;
end $$;

create trigger insight_feedback_fill_times_of_new before insert on insight_feedback for each row
    when (new.created_at is null or new.updated_at is null or (new.rating is null) <> (new.rated_at is null)
          or (new.comment is null) <> (new.commented_at is null) or (new.flag_type is null) <> (new.flagged_at is null))
    execute function feedback_fill_times();
create trigger insight_feedback_fill_times_of_changed before update on insight_feedback for each row
    when (new.updated_at is not distinct from old.updated_at
          or (new.rating is distinct from old.rating and new.rated_at is not distinct from old.rated_at)
          or (new.comment is distinct from old.comment and new.commented_at is not distinct from old.commented_at)
          or (new.flag_type is distinct from old.flag_type and new.flagged_at is not distinct from old.flagged_at)
          or (new.flag_reason is distinct from old.flag_reason and new.flagged_at is not distinct from old.flagged_at))
    execute function feedback_fill_times();

-- The triggers below look at whole statements: of an upsert of many rows, PostgreSQL gives the inserted ones to the first
-- and the updated ones to the second. They are SECURITY DEFINER because nobody but them may write history and deltas.

create function feedback_record_inserted() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if not exists (select from new_rows) then
        return null;
    end if;
    if exists (select from new_rows where rating is null and comment is null and flag_type is null) then
        raise check_violation using constraint = 'insight_feedback_has_a_fact',
            message = 'feedback has a rating, a comment or a flag';
    end if;
    with counted as (
        insert into feedback_deltas
        select insight_id, pg_current_xact_id(),
               count(*) filter (where rating = 1), count(*) filter (where rating = 2), count(*) filter (where rating = 3),
               count(*) filter (where rating = 4), count(*) filter (where rating = 5), count(comment),
               count(*) filter (where flag_type = 'inaccurate'), count(*) filter (where flag_type = 'misleading'),
               count(*) filter (where flag_type = 'spam'), count(*) filter (where flag_type = 'inappropriate'),
               count(*) filter (where flag_type = 'other')
        from new_rows group by insight_id
        returning insight_id)
    insert into cache_outbox (kind, key, x, written_at)
    select 'feedback_stats', insight_id, pg_current_xact_id(), clock_timestamp() from counted;

    with acts as (
        insert into feedback_history (insight_id, user_id, fact, rating, comment, flag_type, flag_reason, occurred_at)
        select insight_id, user_id, 'rating', rating, null, null, null, rated_at from new_rows where rating is not null
        union all
        select insight_id, user_id, 'comment', null, comment, null, null, commented_at from new_rows where comment is not null
        union all
        select insight_id, user_id, 'flag', null, null, flag_type, flag_reason, flagged_at from new_rows where flag_type is not null
        returning insight_id, fact, rating, comment, flag_type, occurred_at)
    insert into feedback_day_deltas
    select insight_id, (occurred_at at time zone 'UTC')::date, pg_current_xact_id(),
           count(rating), coalesce(sum(rating), 0), count(comment), count(flag_type), 0
    from acts group by insight_id, (occurred_at at time zone 'UTC')::date;
    return null;
end $$;

-- Rows are matched by hashing: a plan made for one row is kept for the session, and must also serve a million.
create function feedback_record_updated() returns trigger
    language plpgsql security definer set search_path = public, pg_temp set enable_nestloop = off as $$
begin
    if not exists (select from new_rows) then
        return null;
    end if;
    with counted as (
        insert into feedback_deltas
        select * from (
            select insight_id, pg_current_xact_id() as x,
                   coalesce(sum(n) filter (where rating = 1), 0) as a, coalesce(sum(n) filter (where rating = 2), 0) as b,
                   coalesce(sum(n) filter (where rating = 3), 0) as c, coalesce(sum(n) filter (where rating = 4), 0) as d,
                   coalesce(sum(n) filter (where rating = 5), 0) as e, coalesce(sum(n) filter (where comment is not null), 0) as f,
                   coalesce(sum(n) filter (where flag_type = 'inaccurate'), 0) as g,
                   coalesce(sum(n) filter (where flag_type = 'misleading'), 0) as h,
                   coalesce(sum(n) filter (where flag_type = 'spam'), 0) as i,
                   coalesce(sum(n) filter (where flag_type = 'inappropriate'), 0) as j,
                   coalesce(sum(n) filter (where flag_type = 'other'), 0) as k
            from (select insight_id, rating, comment, flag_type, 1 as n from new_rows
                  union all
                  select insight_id, rating, comment, flag_type, -1 as n from old_rows) as both_sides
            group by insight_id) as change
        where (a, b, c, d, e, f, g, h, i, j, k) <> (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        returning insight_id)
    insert into cache_outbox (kind, key, x, written_at)
    select 'feedback_stats', insight_id, pg_current_xact_id(), clock_timestamp() from counted;

    with changed as (
        select n.*, o.rating as old_rating, o.comment as old_comment, o.flag_type as old_flag_type, o.flag_reason as old_flag_reason
        from new_rows n left join old_rows o on o.id = n.id),
    acts as (
        insert into feedback_history (insight_id, user_id, fact, rating, comment, flag_type, flag_reason, occurred_at)
        select insight_id, user_id, 'rating', rating, null, null, null, coalesce(rated_at, updated_at)
        from changed where rating is distinct from old_rating
        union all
        select insight_id, user_id, 'comment', null, comment, null, null, coalesce(commented_at, updated_at)
        from changed where comment is distinct from old_comment
        union all
        select insight_id, user_id, 'flag', null, null, flag_type, flag_reason, coalesce(flagged_at, updated_at)
        from changed where (flag_type, flag_reason) is distinct from (old_flag_type, old_flag_reason)
        returning insight_id, fact, rating, comment, flag_type, occurred_at)
    insert into feedback_day_deltas
    select insight_id, (occurred_at at time zone 'UTC')::date, pg_current_xact_id(),
           count(rating), coalesce(sum(rating), 0), count(comment), count(flag_type),
           count(*) filter (where rating is null and comment is null and flag_type is null)
    from acts group by insight_id, (occurred_at at time zone 'UTC')::date;

    -- Nothing is left of a row whose last fact was withdrawn. Found by its key: joined by hashing, all rows would be read.
    if exists (select from new_rows where rating is null and comment is null and flag_type is null) then
        delete from insight_feedback
        where id = any (array(select id from new_rows where rating is null and comment is null and flag_type is null))
              and rating is null and comment is null and flag_type is null;
    end if;
    return null;
end $$;

-- What takes rows away is an administrator, retention or an erasure, none of them an act of a user: it is counted, and
-- leaves the history and the days as they are.
create function feedback_record_deleted() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    with counted as (
        insert into feedback_deltas
        select insight_id, pg_current_xact_id(),
               -count(*) filter (where rating = 1), -count(*) filter (where rating = 2), -count(*) filter (where rating = 3),
               -count(*) filter (where rating = 4), -count(*) filter (where rating = 5), -count(comment),
               -count(*) filter (where flag_type = 'inaccurate'), -count(*) filter (where flag_type = 'misleading'),
               -count(*) filter (where flag_type = 'spam'), -count(*) filter (where flag_type = 'inappropriate'),
               -count(*) filter (where flag_type = 'other')
        from old_rows where rating is not null or comment is not null or flag_type is not null
        group by insight_id
        returning insight_id)
    insert into cache_outbox (kind, key, x, written_at)
    select 'feedback_stats', insight_id, pg_current_xact_id(), clock_timestamp() from counted;
    return null;
end $$;

-- Truncated, never deleted: a DELETE in a session with an old snapshot would miss what was committed since. No writer is
-- under way, since TRUNCATE has locked insight_feedback against all of them. The first lock waits for a fold under way, the
-- next two are taken in the order in which readers take them: else this one and they could wait for each other.
create function feedback_record_truncated() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    lock table feedback_fold in exclusive mode;
    truncate feedback_stats, feedback_deltas;
    insert into cache_outbox (kind, key, x, written_at) values ('feedback_stats', null, pg_current_xact_id(), clock_timestamp());
    return null;
end $$;

create trigger insight_feedback_inserted after insert on insight_feedback
    referencing new table as new_rows for each statement execute function feedback_record_inserted();
create trigger insight_feedback_updated after update on insight_feedback
    referencing old table as old_rows new table as new_rows for each statement execute function feedback_record_updated();
create trigger insight_feedback_deleted after delete on insight_feedback
    referencing old table as old_rows for each statement execute function feedback_record_deleted();
create trigger insight_feedback_truncated after truncate on insight_feedback
    for each statement execute function feedback_record_truncated();

-- The lifetime figures are cached with the others.
create function feedback_retired_changed() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into cache_outbox (kind, key, x, written_at)
    select distinct 'feedback_stats', insight_id, pg_current_xact_id(), clock_timestamp() from changed_rows;
    return null;
end $$;
create function feedback_retired_truncated() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into cache_outbox (kind, key, x, written_at) values ('feedback_stats', null, pg_current_xact_id(), clock_timestamp());
    return null;
end $$;
create trigger feedback_retired_inserted after insert on feedback_retired
    referencing new table as changed_rows for each statement execute function feedback_retired_changed();
create trigger feedback_retired_updated_to after update on feedback_retired
    referencing new table as changed_rows for each statement execute function feedback_retired_changed();
create trigger feedback_retired_updated_from after update on feedback_retired
    referencing old table as changed_rows for each statement execute function feedback_retired_changed();
create trigger feedback_retired_deleted after delete on feedback_retired
    referencing old table as changed_rows for each statement execute function feedback_retired_changed();
create trigger feedback_retired_truncated after truncate on feedback_retired
    for each statement execute function feedback_retired_truncated();

comment on table insight_feedback is 'The present rating, comment and flag of each user on each insight.';
comment on table feedback_history is 'Every rating, comment and flag that was given, changed or withdrawn.';
comment on table feedback_stats is 'Folded counts of the live rows of insight_feedback; feedback_deltas has what is not folded yet.';
comment on table feedback_deltas is 'What statements have changed in the counts since the last fold.';
comment on table feedback_days is 'Folded counts of what users did on each day to each insight.';
comment on table feedback_overall_days is 'Folded counts of what users did on each day.';
comment on table feedback_day_deltas is 'What users did since the last fold.';
comment on table feedback_retired is 'Counts of rows that retention has removed, by insight and day, without users.';

-- The serving role cannot delete feedback, nor change what was recorded of it; it folds.
grant select, insert, update on insight_feedback to utxoiq_app;
grant select on feedback_history, feedback_retired to utxoiq_app;
grant select, insert, update on feedback_stats, feedback_days, feedback_overall_days to utxoiq_app;
grant select, delete on feedback_deltas, feedback_day_deltas to utxoiq_app;
grant select, update (system_identifier, stats_below, days_below) on feedback_fold to utxoiq_app;
grant execute on function feedback_read_stats to utxoiq_app;

-- Whoever may execute a trigger function may attach it to a table of its own, and write through it.
revoke execute on function feedback_fill_times from public;
revoke execute on function feedback_record_inserted from public;
revoke execute on function feedback_record_updated from public;
revoke execute on function feedback_record_deleted from public;
revoke execute on function feedback_record_truncated from public;
revoke execute on function feedback_retired_changed from public;
revoke execute on function feedback_retired_truncated from public;
