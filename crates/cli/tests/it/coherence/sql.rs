//! The SQL by which the tables' owner changes feedback past the service, and by which the straw servers keep it.

/// A user's rating (`$1` insight, `$2` user, `$3` rating), first or changed.
pub const RATE: &str = "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, created_at, updated_at)
    select gen_random_uuid(), $1, $2, $3, at, at, at from clock_timestamp() as at
    on conflict (insight_id, user_id) do update
    set rating = excluded.rating, rated_at = excluded.rated_at, updated_at = excluded.updated_at";

/// A changed rating, the way one corrects a row by hand: the other columns are left to the database.
pub const CORRECT: &str =
    "update insight_feedback set rating = $3 where insight_id = $1 and user_id = $2";

/// Many users' first ratings in one statement: `$2` users, `$3` ratings.
pub const RATE_MANY: &str = "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, created_at, updated_at)
    select gen_random_uuid(), $1, user_id, rating, at, at, at
    from unnest($2::text[], $3::smallint[]) as rows (user_id, rating), clock_timestamp() as at";

/// A row goes.
pub const REMOVE: &str = "delete from insight_feedback where insight_id = $1 and user_id = $2";

/// A row goes to another insight (`$3`).
pub const MOVE: &str =
    "update insight_feedback set insight_id = $3 where insight_id = $1 and user_id = $2";

/// An insight's rating of a user.
pub const RATING: &str =
    "select rating from insight_feedback where insight_id = $1 and user_id = $2";

/// How many ratings of each value an insight has, counted.
pub const COUNT: &str = "select count(*) filter (where rating = 1), count(*) filter (where rating = 2),
    count(*) filter (where rating = 3), count(*) filter (where rating = 4), count(*) filter (where rating = 5)
    from insight_feedback where insight_id = $1";

/// The straw servers' own record of changes; no insight stands for all of them.
pub const STRAW_CHANGES: &str = "create table straw_changes (insight_id text, x xid8 not null);
    create index on straw_changes (x);
    create function straw_changed() returns trigger language plpgsql security definer as $$
    begin
        if tg_op = 'TRUNCATE' then
            insert into straw_changes values (null, pg_current_xact_id());
        else
            insert into straw_changes
            select distinct id, pg_current_xact_id()
            from unnest(array[new.insight_id, old.insight_id]) as id where id is not null;
        end if;
        return null;
    end $$;
    create trigger straw_changed after insert or update or delete on insight_feedback
        for each row execute function straw_changed();
    create trigger straw_truncated after truncate on insight_feedback
        for each statement execute function straw_changed()";
