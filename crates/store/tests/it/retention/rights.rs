//! What people and officers may ask for: expiry around holds, erasure, restoring, and where things are.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use utxoiq_store::{
    Store,
    cold::Dataset,
    db::roles,
    retention::{ArchiveFilter, Certificate, Held, Place, Restorable, State, Which, Wrong},
};

use super::{ACTOR, House, after, day, start};

const OLD: &str = "2023-01-10";

/// Every row of these tables, by table.
const CONTENT: &str = "
    select 'metrics' as t, count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from (select * from system_metrics) r
    union all select 'feedback', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from insight_feedback r
    union all select 'history', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from feedback_history r
    union all select 'jobs', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from backfill_jobs r
    union all select 'attempts', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from backfill_attempts r
    union all select 'errors', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from backfill_errors r
    union all select 'checkpoints', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from backfill_checkpoints r
    union all select 'day deltas', 0, coalesce(sum(hashtext(d::text)), 0)::text from (
        select insight_id, day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals) from (
            select insight_id, day, ratings, rating_sum, comments, flags, withdrawals from feedback_days
            union all select insight_id, day, ratings, rating_sum, comments, flags, withdrawals from feedback_day_deltas) a
        group by 1, 2) d
    union all select 'rollups', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from metric_rollups r
    union all select 'retired', count(*), coalesce(sum(hash_record_extended(r, 0)), 0)::text from feedback_retired r
    order by 1";

impl House {
    async fn content(&self) -> BTreeMap<String, (i64, String)> {
        let rows = self.admin.query(CONTENT, &[]).await.unwrap();
        rows.iter()
            .map(|row| (row.get(0), (row.get(1), row.get(2))))
            .collect()
    }

    /// Live and retired counts of all insights, in order.
    async fn lifetime(&self) -> String {
        let sql = "select string_agg(insight_id || ':' || all_of::text, ' ' order by insight_id) from (
                       select insight_id, array(select l + r from unnest(live, retired) u(l, r)) as all_of
                       from feedback_read_stats(array(
                           select insight_id from (select insight_id from insight_feedback union select insight_id from feedback_retired) i))) s
                   where all_of <> '{0,0,0,0,0,0,0,0,0,0,0}'";
        let row = self.admin.query_one(sql, &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// Every row in active archives of people, as JSON, with those of the database, sorted.
    async fn people(&self) -> Vec<String> {
        let mut all = self.archived_people().await;
        let sql = "select to_jsonb(f) - 'updated_at' from archive_feedback f union all select to_jsonb(f) from archive_feedback_history f";
        for row in self.admin.query(sql, &[]).await.unwrap() {
            all.push(short(&row.get(0)));
        }
        all.sort();
        all
    }

    async fn archived_people(&self) -> Vec<String> {
        let retention = self.store.retention().unwrap();
        let cold = self.store.cold().unwrap();
        let mut all = Vec::new();
        let filter = ArchiveFilter {
            state: Some(State::Archived),
            ..ArchiveFilter::default()
        };
        for archive in retention
            .archives(&filter, 1_000, None)
            .await
            .unwrap()
            .archives
        {
            if !archive.dataset.starts_with("feedback") {
                continue;
            }
            let archive = retention.archive(archive.id).await.unwrap();
            let fetched = cold.fetch(&archive.stored().unwrap()).await.unwrap();
            let mut rows = fetched.rows().unwrap();
            while let Some(batch) = rows.next().await.unwrap() {
                all.extend(batch.iter().map(short));
            }
        }
        all
    }

    /// The sums of retired rows are those of the archives.
    async fn assert_retired(&self) {
        let expected = "select string_agg(insight_id || ':' || n, ' ' order by insight_id) from (
            select insight_id, sum(ratings_1 + ratings_2 + ratings_3 + ratings_4 + ratings_5) as n from feedback_retired group by 1) s";
        let retired: String = self.admin.query_one(expected, &[]).await.unwrap().get(0);
        let mut ratings: BTreeMap<String, i64> = BTreeMap::new();
        for archive in self.archived_people().await {
            let parts: Vec<&str> = archive.split(' ').collect();
            if parts[0].starts_with('"') {
                *ratings
                    .entry(parts[2].trim_matches('"').to_owned())
                    .or_default() += 1;
            }
        }
        let ratings: Vec<String> = ratings
            .iter()
            .map(|(insight, n)| format!("{insight}:{n}"))
            .collect();
        assert_eq!(retired, ratings.join(" "));
    }

    /// Three days of feedback by twelve users on three insights; the last day stays in the database.
    async fn three_days(&self) {
        for n in 0..36_u8 {
            let on = after(day(OLD), u64::from(n / 12));
            let at = start(on) + TimeDelta::minutes(i64::from(n));
            let insight = format!("insight-{}", n % 5);
            self.feedback(
                &insight,
                &format!("user-{}", n % 12 + (n / 12) % 2),
                i16::from(n % 5) + 1,
                at,
            )
            .await;
        }
    }
}

/// What is the same of a row wherever it is.
fn short(row: &serde_json::Value) -> String {
    let rating = row["rating"].as_i64().unwrap_or_default();
    let comment = row["comment"].as_str().unwrap_or_default();
    let (id, user, insight) = (&row["id"], &row["user_id"], &row["insight_id"]);
    format!("{id} {user} {insight} {rating} {comment}")
}

async fn erase(
    store: &Store,
    house: &House,
    user: &str,
) -> utxoiq_store::error::Result<Certificate> {
    let now = house.store.now();
    store.retention().unwrap().erase(user, now, ACTOR).await
}

#[tokio::test]
async fn an_archive_expires_around_the_rows_that_are_held_and_is_left_alone_where_all_are() {
    let house = House::on(OLD).await;
    for n in 0..12_u8 {
        let (insight, user) = (format!("insight-{}", n % 5), format!("user-{n}"));
        let at = start(day(OLD)) + TimeDelta::minutes(i64::from(n));
        house
            .feedback(&insight, &user, i16::from(n % 5) + 1, at)
            .await;
    }
    assert!(house.run_on(day("2025-01-11")).await.is_success());
    let retention = house.store.retention().unwrap();
    let place = async |held| {
        let hold = retention
            .place_hold(held, "case", None, house.store.now(), ACTOR)
            .await;
        hold.unwrap().id
    };
    let user = place(Held::User {
        user_id: "user-3".into(),
    })
    .await;
    let insight = place(Held::Insight {
        insight_id: "insight-1".into(),
    })
    .await;
    let before = house.archived_people().await;
    let held = before
        .iter()
        .filter(|row| row.contains("\"user-3\"") || row.contains("\"insight-1\""))
        .count();
    assert!(held > 2 && held < before.len());
    let lifetime = house.lifetime().await;
    let report = house.run_on(day("2026-01-11")).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(
        report.kept.iter().map(|step| step.rows).sum::<i64>(),
        i64::try_from(held).unwrap()
    );
    assert_eq!(house.archived_people().await.len(), held);
    assert_eq!(
        house.lifetime().await,
        lifetime,
        "what expired stays counted"
    );
    let objects = house.objects("");
    // Again: nothing is written, and nothing goes.
    let report = house.run_on(day("2026-01-11")).await;
    assert!(
        report.is_success() && report.expired.is_empty() && report.kept.len() == 2,
        "{report:?}"
    );
    assert_eq!(house.objects(""), objects);
    for hold in [user, insight] {
        retention
            .release_hold(hold, "over", house.store.now(), ACTOR)
            .await
            .unwrap();
    }
    // A hold that is placed after the plan was made is still asked for.
    let id = retention
        .archives(
            &ArchiveFilter {
                state: Some(State::Archived),
                ..ArchiveFilter::default()
            },
            10,
            None,
        )
        .await
        .unwrap()
        .archives[0]
        .id;
    place(Held::User {
        user_id: "nobody".into(),
    })
    .await;
    let client = house.db.client(roles::RETENTION).await;
    client.execute("insert into retention_runs (began_at, began_by, lease_expires_at) values ('2026-01-11 02:00Z', 'x', '2026-01-11 03:00Z')", &[]).await.unwrap();
    let run: i64 = client
        .query_one("select max(id) from retention_runs", &[])
        .await
        .unwrap()
        .get(0);
    let blind = client
        .execute(
            "select archive_expire($1, $2, null, 'x', '2026-01-11', 'x')",
            &[&run, &id],
        )
        .await
        .unwrap_err();
    assert_eq!(blind.code().unwrap().code(), "UT013");
    client.execute("update retention_runs set ended_at = '2026-01-11 02:00Z', outcome = 'failed' where ended_at is null", &[]).await.unwrap();
    let report = house.run_on(day("2026-01-11")).await;
    assert_eq!(report.expired.len(), 2, "{report:?}");
    assert!(
        house
            .objects("")
            .iter()
            .all(|name| !name.contains("day=2023-01-10"))
    );
    house.assert_chain().await;
}

#[tokio::test]
async fn a_person_is_erased_everywhere_and_nobody_else_is_touched() {
    let house = House::with(OLD, &[("UTXOIQ_STORE_RETENTION__BATCH_ROWS", "9")]).await;
    house.three_days().await;
    assert!(house.run_on(day("2025-01-12")).await.is_success());
    let everybody = house.people().await;
    let (theirs, others): (Vec<_>, Vec<_>) = everybody
        .into_iter()
        .partition(|row| row.contains("\"user-2\""));
    assert!(theirs.len() > 5);
    let old_objects = house.objects(".parquet");
    // The person writes on while the first archive is replaced.
    house
        .admin
        .batch_execute(
            "create table tricks (left_over int); insert into tricks values (1);
         create function trick() returns trigger language plpgsql security definer as $$ begin
             if new.state = 'replaced' and exists (select from tricks where left_over > 0) then
                 update tricks set left_over = left_over - 1;
                 insert into insight_feedback (insight_id, user_id, rating, created_at, updated_at)
                     values ('insight-9', 'user-2', 5, '2025-01-12', '2025-01-12');
             end if;
             return null;
         end $$;
         create trigger trick after update on archives for each row execute function trick()",
        )
        .await
        .unwrap();
    let pseudonym = house
        .store
        .retention()
        .unwrap()
        .pseudonym("user-2")
        .unwrap();
    let certificate = erase(&house.store, &house, "user-2").await.unwrap();
    assert_eq!(certificate.pseudonym, pseudonym);
    assert_eq!(house.people().await, others);
    let dropped = certificate.feedback_rows + certificate.history_rows + certificate.archived_rows;
    // What was written meanwhile is a row and an act.
    assert_eq!(dropped, i64::try_from(theirs.len()).unwrap() + 2);
    assert_eq!(
        certificate
            .archives
            .iter()
            .map(|a| a.dropped_rows)
            .sum::<i64>(),
        certificate.archived_rows
    );
    assert!(certificate.archives.len() >= 4, "{certificate:?}");
    for rewritten in &certificate.archives {
        let gone = rewritten.old.simple().to_string();
        assert!(old_objects.iter().any(|name| name.contains(&gone)));
        assert!(!house.objects("").iter().any(|name| name.contains(&gone)));
        assert_ne!(rewritten.old_sha256, rewritten.new_sha256);
    }
    // Statistics are those of everybody else, live and retired.
    assert!(house.store.feedback().drift(10).await.unwrap().is_empty());
    house.assert_retired().await;
    // The log has the certificate, and no name.
    let named =
        "select count(*) from audit_log where subject like '%user-2%' or details like '%user-2%'";
    assert_eq!(house.number(named).await, 0);
    let certified = format!(
        "select count(*) from audit_log where sequence = {} and action = 'erase'",
        certificate.audited_as
    );
    assert_eq!(house.number(&certified).await, 1);
    assert_eq!(
        house
            .number("select count(*) from feedback_erasures where user_id is not null")
            .await,
        0
    );
    assert!(
        house
            .store
            .retention()
            .unwrap()
            .verify(Which::All, house.store.now(), ACTOR)
            .await
            .unwrap()
            .is_sound()
    );
    house.assert_chain().await;
}

#[tokio::test]
async fn an_erasure_that_is_killed_anywhere_is_gone_on_with_and_loses_nobody_elses_rows() {
    for seed in 0..6_u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let house = House::with(OLD, &[("UTXOIQ_STORE_RETENTION__BATCH_ROWS", "9")]).await;
        house.three_days().await;
        assert!(house.run_on(day("2025-01-12")).await.is_success());
        let mut others = house.people().await;
        others.retain(|row| !row.contains("\"user-2\""));
        for _ in 0..4 {
            let process = house.another();
            let killed = Duration::from_millis(random.random_range(1..120));
            let _ = tokio::time::timeout(killed, erase(&process, &house, "user-2")).await;
        }
        if seed % 2 == 0 {
            let report = house.run_on(day("2025-01-12")).await;
            assert!(report.is_success(), "{report:?}");
        } else {
            let mut erased = erase(&house.store, &house, "user-2").await;
            // The lock of one that was killed goes with its connection.
            while erased
                .as_ref()
                .is_err_and(|error| error.code() == "erasure_running")
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
                erased = erase(&house.store, &house, "user-2").await;
            }
            erased.unwrap();
        }
        assert_eq!(house.people().await, others, "seed {seed}");
        let names = house
            .number("select count(*) from feedback_erasures where user_id is not null")
            .await;
        assert_eq!(names, 0, "seed {seed}");
        let stray = "select count(*) from archives where state in ('writing', 'proved') or (ended_at is not null and removed_at is null)";
        assert_eq!(house.number(stray).await, 0, "seed {seed}");
        house.assert_retired().await;
        assert!(house.store.feedback().drift(10).await.unwrap().is_empty());
        assert!(
            house
                .store
                .retention()
                .unwrap()
                .verify(Which::All, house.store.now(), ACTOR)
                .await
                .unwrap()
                .is_sound()
        );
        house.assert_chain().await;
    }
}

#[tokio::test]
async fn an_archive_under_way_that_has_copied_a_person_is_given_up_when_the_person_is_erased() {
    let house = House::on(OLD).await;
    house.three_days().await;
    // A run that stopped between proof and deletion.
    house
        .admin
        .batch_execute(
            "create function trick() returns trigger language plpgsql as $$ begin
             if new.state = 'archived' then raise 'stop'; end if;
             return new;
         end $$;
         create trigger trick before update on archives for each row execute function trick()",
        )
        .await
        .unwrap();
    assert!(!house.run_on(day("2025-01-11")).await.is_success());
    assert_eq!(
        house
            .number("select count(*) from archives where state = 'proved'")
            .await,
        2
    );
    house
        .admin
        .batch_execute("drop trigger trick on archives")
        .await
        .unwrap();
    let certificate = erase(&house.store, &house, "user-2").await.unwrap();
    assert!(certificate.archives.is_empty() && certificate.feedback_rows > 0);
    assert!(house.objects("").is_empty());
    let report = house.run_on(day("2025-01-11")).await;
    assert!(
        report.is_success() && !report.archived.is_empty(),
        "{report:?}"
    );
    assert!(
        house
            .people()
            .await
            .iter()
            .all(|row| !row.contains("\"user-2\""))
    );
}

#[tokio::test]
async fn a_hold_stops_an_erasure_and_the_refusal_is_noted() {
    let house = House::on(OLD).await;
    house.three_days().await;
    let retention = house.store.retention().unwrap();
    let now = house.store.now();
    let user = Held::User {
        user_id: "user-2".into(),
    };
    let hold = retention
        .place_hold(user, "case", None, now, ACTOR)
        .await
        .unwrap()
        .id;
    let before = house.content().await;
    let pseudonym = retention.pseudonym("user-2").unwrap();
    let whose = retention.user_of(&pseudonym).await.unwrap();
    assert_eq!(whose.as_deref(), Some("user-2"));
    assert_eq!(retention.user_of("nobody's").await.unwrap(), None);
    let refused = erase(&house.store, &house, "user-2").await.unwrap_err();
    assert_eq!(refused.code(), "legal_hold");
    assert_eq!(house.content().await, before);
    assert_eq!(
        house.number("select count(*) from feedback_erasures").await,
        0
    );
    assert_eq!(house.number("select count(*) from audit_log where action = 'denied' and details like '%legal_hold%'").await, 1);
    retention
        .release_hold(hold, "over", now, ACTOR)
        .await
        .unwrap();
    // A day in cold storage is held: the rest goes, and that when the hold is over.
    assert!(house.run_on(day("2025-01-11")).await.is_success());
    let held = Held::Day {
        dataset: None,
        first_day: day(OLD),
        last_day: day(OLD),
    };
    let hold = retention
        .place_hold(held, "case", None, now, ACTOR)
        .await
        .unwrap()
        .id;
    assert_eq!(
        erase(&house.store, &house, "user-2")
            .await
            .unwrap_err()
            .code(),
        "legal_hold"
    );
    let left = |rows: Vec<String>| rows.iter().filter(|row| row.contains("\"user-2\"")).count();
    assert_eq!(left(house.people().await), 3);
    let report = house.run_on(day("2025-01-11")).await;
    assert!(report.is_success() && report.kept.len() == 1, "{report:?}");
    retention
        .release_hold(hold, "over", now, ACTOR)
        .await
        .unwrap();
    let report = house.run_on(day("2025-01-11")).await;
    assert_eq!(
        (report.erased, report.is_success()),
        (1, true),
        "{report:?}"
    );
    assert_eq!(left(house.people().await), 0);
}

/// Rows of all four datasets, archived; gives what there was before.
async fn archived_house() -> (House, BTreeMap<String, (i64, String)>, String) {
    let house = House::with(OLD, &[("UTXOIQ_STORE_RETENTION__BATCH_ROWS", "9")]).await;
    let first = day(OLD);
    house.three_days().await;
    house.job("blocks", "completed", start(first)).await;
    house.job("blocks", "failed", start(first)).await;
    let times: Vec<_> = (0..3_000)
        .map(|n| start(first) + TimeDelta::seconds(20 * n))
        .collect();
    house.samples("a", &times).await;
    house.samples("b", &times[..7]).await;
    house.roll_up_to(after(first, 4)).await;
    let (before, lifetime) = (house.content().await, house.lifetime().await);
    let report = house.run_on(day("2025-01-15")).await;
    assert!(report.is_success(), "{report:?}");
    (house, before, lifetime)
}

#[tokio::test]
async fn what_is_restored_is_what_was_archived_and_leaves_again_when_its_hold_ends() {
    // Metrics of that age would be gone: theirs has a policy of its own.
    let house = House::with(
        OLD,
        &[
            ("UTXOIQ_STORE_RETENTION__BATCH_ROWS", "9"),
            ("UTXOIQ_STORE_RETENTION__METRICS_DAYS", "3000"),
        ],
    )
    .await;
    let first = day(OLD);
    house.three_days().await;
    house.job("blocks", "completed", start(first)).await;
    house.job("blocks", "failed", start(first)).await;
    let times: Vec<_> = (0..3_000)
        .map(|n| start(first) + TimeDelta::seconds(20 * n))
        .collect();
    house.samples("a", &times).await;
    house.samples("b", &times[..7]).await;
    house.roll_up_to(after(first, 4)).await;
    let (before, lifetime) = (house.content().await, house.lifetime().await);
    let report = house.run_on(day("2025-01-15")).await;
    assert!(report.is_success(), "{report:?}");
    let hot = "select (select count(*) from system_metrics) + (select count(*) from insight_feedback) + (select count(*) from feedback_history) + (select count(*) from backfill_jobs)";
    assert_eq!(house.number(hot).await, 0);
    assert_eq!(house.lifetime().await, lifetime);
    let retention = house.store.retention().unwrap();
    let places = async |on: &str| {
        let found = house
            .store
            .retention()
            .unwrap()
            .where_is(day(on), None)
            .await
            .unwrap();
        found.iter().map(|is| is.place).collect::<Vec<_>>()
    };
    assert_eq!(places(OLD).await, [Place::Cold; 4]);
    let now = house.store.now();
    for (dataset, days) in [
        (Dataset::Metrics, 1),
        (Dataset::BackfillJobs, 1),
        (Dataset::Feedback, 3),
        (Dataset::FeedbackHistory, 3),
    ] {
        for n in 0..days {
            let what = Restorable::Day(dataset, after(first, n));
            // Killed somewhere, and run again.
            for milliseconds in [3, 11, 30] {
                let process = house.another();
                let retention = process.retention().unwrap();
                let restoring = retention.restore(what, 30, "looking into it", now, ACTOR);
                let _ = tokio::time::timeout(Duration::from_millis(milliseconds), restoring).await;
            }
            match retention
                .restore(what, 30, "looking into it", now, ACTOR)
                .await
            {
                Ok(restored) => assert!(restored.rows > 0),
                Err(error) => assert_eq!(
                    error.code(),
                    "nothing_archived",
                    "{dataset} {}",
                    error.report()
                ),
            }
        }
    }
    assert_eq!(house.content().await, before);
    assert_eq!(house.lifetime().await, lifetime);
    assert!(house.store.feedback().drift(10).await.unwrap().is_empty());
    assert_eq!(places(OLD).await, [Place::Hot; 4]);
    let verified = house
        .store
        .metrics()
        .verify(first, false, now)
        .await
        .unwrap();
    assert_eq!((verified.differing, verified.waiting), (0, 0));
    // The hold keeps it for thirty days; what was archived before is gone from the store.
    let report = house.run_on(day("2025-01-16")).await;
    assert!(
        report.is_success() && report.archived.is_empty(),
        "{report:?}"
    );
    assert!(house.objects("").is_empty());
    assert_eq!(house.content().await, before);
    let then = day("2025-02-20");
    retention
        .release_expired_holds(start(then), ACTOR)
        .await
        .unwrap();
    let report = house.run_on(then).await;
    assert!(
        report.is_success() && report.archived.len() > 6,
        "{report:?}"
    );
    assert_eq!(house.number(hot).await, 0);
    assert_eq!(house.lifetime().await, lifetime);
    house.assert_chain().await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_restoring_is_named_and_nothing_is_restored() {
    let (house, _, _) = archived_house().await;
    let retention = house.store.retention().unwrap();
    let now = house.store.now();
    house.feedback("insight-0", "user-0", 4, now).await;
    let before = house.content().await;
    let what = Restorable::Day(Dataset::Feedback, day(OLD));
    let refused = retention
        .restore(what, 7, "why", now, ACTOR)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "restore_conflict");
    assert!(
        refused.message().contains("insight-0 (feedback "),
        "{refused}"
    );
    assert!(!refused.message().contains("user-0"));
    assert_eq!(house.content().await, before);
    // That user's rows of the day are in both places.
    house
        .feedback("insight-0", "late", 4, start(day(OLD)))
        .await;
    let found = retention
        .where_is(day(OLD), Some(Dataset::Feedback))
        .await
        .unwrap();
    assert_eq!((found[0].place, found[0].hot_rows), (Place::Both, 1));
    let actions: Vec<&str> = found[0]
        .proof
        .iter()
        .map(|proof| proof.action.as_str())
        .collect();
    assert_eq!(
        actions,
        ["archive", "delete", "archive", "delete", "denied"]
    );
    // What is not what was archived is refused by the database.
    let client = house.db.client(roles::RETENTION).await;
    let sql = "select archive_restore_rows(id, '[]', gen_random_uuid(), '2026-01-01', 'x', '2025-01-15', 'x') from archives
               where dataset = 'backfill_jobs' and state = 'archived'";
    let refused = client.execute(sql, &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "UT012");
    assert_eq!(
        retention
            .where_is(day(OLD), Some(Dataset::Metrics))
            .await
            .unwrap()[0]
            .place,
        Place::Deleted
    );
    assert_eq!(
        retention
            .where_is(day("2020-02-02"), Some(Dataset::Metrics))
            .await
            .unwrap()[0]
            .place,
        Place::Never
    );
    let wrong = retention
        .restore(what, 0, " ", now, ACTOR)
        .await
        .unwrap_err();
    assert_eq!(wrong.field_errors().len(), 2);
}

#[tokio::test]
async fn a_restored_person_can_be_erased_although_the_day_is_held_for_reading() {
    let (house, _, _) = archived_house().await;
    let retention = house.store.retention().unwrap();
    let now = house.store.now();
    let what = Restorable::Day(Dataset::Feedback, day(OLD));
    retention.restore(what, 7, "why", now, ACTOR).await.unwrap();
    let certificate = erase(&house.store, &house, "user-2").await.unwrap();
    assert!(certificate.feedback_rows > 0 && certificate.archived_rows > 0);
    assert!(
        house
            .people()
            .await
            .iter()
            .all(|row| !row.contains("\"user-2\""))
    );
    assert!(house.store.feedback().drift(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn verification_finds_what_is_damaged_lost_or_nobodys() {
    let (house, _, _) = archived_house().await;
    let retention = house.store.retention().unwrap();
    let now = house.store.now();
    let sound = retention.verify(Which::All, now, ACTOR).await.unwrap();
    assert!(sound.is_sound() && sound.archives > 4, "{sound:?}");
    let objects = house.objects(".parquet");
    let path = |name: &str| house.cold.path().join(name);
    let mut bytes = std::fs::read(path(&objects[0])).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path(&objects[0]), bytes).unwrap();
    std::fs::remove_file(path(&objects[1])).unwrap();
    std::fs::remove_file(path(&objects[2].replace(".parquet", ".json"))).unwrap();
    let beside = path(&objects[3].replace(".parquet", ".json"));
    let manifest = std::fs::read_to_string(&beside)
        .unwrap()
        .replace("\"rows\": 9", "\"rows\": 8");
    std::fs::write(&beside, manifest).unwrap();
    let orphan = "feedback/day=2022-02-02/part-0000-0000000000000000000000000000004d.parquet";
    std::fs::create_dir_all(path("feedback/day=2022-02-02")).unwrap();
    std::fs::write(path(orphan), b"x").unwrap();
    std::fs::write(path("notes.txt"), b"x").unwrap();
    let found = retention.verify(Which::All, now, ACTOR).await.unwrap();
    let mut wrong: Vec<_> = found
        .faults
        .iter()
        .map(|fault| (fault.object.as_str(), fault.wrong))
        .collect();
    wrong.sort_by_key(|(object, wrong)| (*object, wrong.name()));
    let mut expected = vec![
        (objects[0].as_str(), Wrong::DamagedObject),
        (objects[1].as_str(), Wrong::LostObject),
        (objects[2].as_str(), Wrong::LostManifest),
        (objects[3].as_str(), Wrong::DifferentManifest),
        (orphan, Wrong::OrphanedObject),
        ("notes.txt", Wrong::ForeignObject),
    ];
    expected.sort_by_key(|(object, wrong)| (*object, wrong.name()));
    assert_eq!(wrong, expected);
    let noted = format!(
        "select count(*) from audit_log where sequence = {} and action = 'verify' and details like '%lost_object%'",
        found.audited_as
    );
    assert_eq!(house.number(&noted).await, 1);
}
