//! Rows move as they are, once, and only when they were proved.

use chrono::TimeDelta;
use utxoiq_store::cold::Dataset;

use super::{ACTOR, House, after, day, start};

#[tokio::test]
async fn a_day_of_samples_leaves_the_database_when_it_was_read_back() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    let times: Vec<_> = (0..5_000)
        .map(|n| start(first) + TimeDelta::seconds(17 * n))
        .collect();
    house.samples("a", &times).await;
    house.samples("b", &times[..40]).await;
    house.samples("a", &[start(after(first, 1))]).await;
    house.roll_up_to(after(first, 4)).await;
    let hash = "select sum(hash_record_extended(r, 0))::text from (select * from system_metrics) r";
    let before: String = house.admin.query_one(hash, &[]).await.unwrap().get(0);

    let report = house.run_on(after(first, 90)).await;
    assert!(
        report.archived.is_empty() && report.is_success(),
        "{report:?}"
    );
    let report = house.run_on(after(first, 91)).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(report.archived_rows(Dataset::Metrics), 5_040);
    assert_eq!(house.number("select count(*) from system_metrics").await, 1);
    assert_eq!(
        house
            .number("select count(*) from pg_class where relname = 'system_metrics_20260101'")
            .await,
        0
    );
    assert_eq!(
        house
            .number(
                "select count(*) from metric_days where day = '2026-01-01' and state = 'archived'"
            )
            .await,
        1
    );
    assert_eq!(house.objects(".parquet").len(), 1);
    assert_eq!(house.objects(".json").len(), 1);
    assert!(house.objects(".parquet")[0].starts_with("metrics/day=2026-01-01/part-0000-"));
    // Again: nothing is left to do.
    let report = house.run_on(after(first, 91)).await;
    assert!(report.archived.is_empty() && report.is_success());
    house.assert_chain().await;
    let _ = before;
}

#[tokio::test]
async fn rows_leave_with_all_that_belongs_to_them_and_the_statistics_stay_right() {
    let house = House::with("2023-01-10", &[("UTXOIQ_STORE_RETENTION__BATCH_ROWS", "7")]).await;
    let first = day("2023-01-10");
    for n in 0..30_u8 {
        let at = start(first) + TimeDelta::minutes(i64::from(n));
        let (insight, user) = (format!("insight-{}", n % 3), format!("user-{n}"));
        house
            .feedback(&insight, &user, i16::from(n % 5) + 1, at)
            .await;
    }
    house.job("blocks", "completed", start(first)).await;
    house.job("blocks", "failed", start(first)).await;
    house.job("other", "cancelled", start(first)).await;
    let young = house.job("blocks", "running", start(first)).await;
    let lifetime = "select sum(ratings)::bigint from (
                        select unnest(live[1:5]) + unnest(retired[1:5]) as ratings
                        from feedback_read_stats(array['insight-0', 'insight-1', 'insight-2'])) l";
    assert_eq!(house.number(lifetime).await, 30);

    let report = house.run_on(day("2025-01-11")).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(report.archived_rows(Dataset::Feedback), 30);
    // A rating and a comment each.
    assert_eq!(report.archived_rows(Dataset::FeedbackHistory), 60);
    assert_eq!(report.archived_rows(Dataset::BackfillJobs), 3);
    let parts = report
        .archived
        .iter()
        .filter(|moved| moved.dataset == "feedback");
    assert_eq!(parts.count(), 5);
    for table in ["insight_feedback", "feedback_history"] {
        assert_eq!(
            house.number(&format!("select count(*) from {table}")).await,
            0
        );
    }
    for table in ["backfill_jobs", "backfill_errors", "backfill_checkpoints"] {
        assert_eq!(
            house.number(&format!("select count(*) from {table}")).await,
            1,
            "{table}"
        );
    }
    let left: uuid::Uuid = house
        .admin
        .query_one("select id from backfill_jobs", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, young);
    assert_eq!(house.number(lifetime).await, 30);
    let live = "select sum(l)::bigint from (select unnest(live) as l from feedback_read_stats(array['insight-0', 'insight-1', 'insight-2'])) s";
    assert_eq!(house.number(live).await, 0);
    assert!(house.store.feedback().drift(10).await.unwrap().is_empty());
    house.assert_chain().await;
}

#[tokio::test]
async fn what_changes_between_copy_and_deletion_stays_and_is_copied_anew() {
    let house = House::on("2023-01-10").await;
    let first = day("2023-01-10");
    for n in 0..5 {
        house
            .feedback(
                "insight",
                &format!("user-{n}"),
                3,
                start(first) + TimeDelta::minutes(n),
            )
            .await;
    }
    // Each deletion finds another row than was copied, twice; then it is let be.
    house
        .admin
        .batch_execute(
            "create table tricks (left_over int); insert into tricks values (2);
             create function trick() returns trigger language plpgsql security definer as $$ begin
                 if new.state = 'proved' and new.dataset = 'feedback' and exists (select from tricks where left_over > 0) then
                     update tricks set left_over = left_over - 1;
                     update insight_feedback set comment = comment || '!', updated_at = updated_at
                         where user_id = 'user-3';
                     update insight_feedback set updated_at = '2023-01-10 12:00:00Z' where user_id = 'user-3';
                 end if;
                 return null;
             end $$;
             create trigger trick after update on archives for each row execute function trick()",
        )
        .await
        .unwrap();
    let report = house.run_on(day("2025-01-11")).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(report.archived_rows(Dataset::Feedback), 5);
    let abandoned =
        "select count(*) from archives where dataset = 'feedback' and state = 'abandoned'";
    assert_eq!(house.number(abandoned).await, 2);
    // What was given up is gone from the store by the end of the run.
    let left = "select count(*) from archives where state = 'abandoned' and removed_at is null";
    assert_eq!(house.number(left).await, 0);
    let feedback = house
        .objects(".parquet")
        .into_iter()
        .filter(|name| name.starts_with("feedback/"));
    assert_eq!(feedback.count(), 1);
}

#[tokio::test]
async fn samples_that_changed_past_the_triggers_are_found_before_the_drop_and_put_back() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    let times: Vec<_> = (0..100)
        .map(|n| start(first) + TimeDelta::seconds(17 * n))
        .collect();
    house.samples("a", &times).await;
    house.roll_up_to(after(first, 4)).await;
    house
        .admin
        .batch_execute(
            "create function trick() returns trigger language plpgsql security definer as $$ begin
                 if new.state = 'detached' then
                     alter table system_metrics_20260101 disable trigger all;
                     update system_metrics_20260101 set value = value + 1 where sampled_at = '2026-01-01 00:00:17Z';
                     alter table system_metrics_20260101 enable trigger all;
                 end if;
                 return null;
             end $$;
             create trigger trick after update on archives for each row execute function trick()",
        )
        .await
        .unwrap();
    let report = house.run_on(after(first, 91)).await;
    assert_eq!(report.failures.len(), 1, "{report:?}");
    assert_eq!(report.archived_rows(Dataset::Metrics), 0);
    assert_eq!(
        house.number("select count(*) from system_metrics").await,
        100
    );
    assert!(house.objects(".parquet").is_empty());
    assert_eq!(
        house
            .number("select count(*) from metric_days where state = 'open' and day = '2026-01-01'")
            .await,
        1
    );
    house
        .admin
        .batch_execute("drop trigger trick on archives")
        .await
        .unwrap();
    // The rollup of that hour is wrong, as the verification finds and mends.
    let report = house.run_on(after(first, 92)).await;
    assert_eq!(report.archived_rows(Dataset::Metrics), 100, "{report:?}");
    house.assert_chain().await;
}

#[tokio::test]
async fn a_late_sample_of_a_day_under_way_sends_it_back_to_the_beginning() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house
        .samples("a", &[start(first), start(first) + TimeDelta::hours(3)])
        .await;
    house.roll_up_to(after(first, 4)).await;
    house
        .admin
        .batch_execute(
            "create table tricks (left_over int); insert into tricks values (1);
             create function trick() returns trigger language plpgsql security definer as $$ begin
                 if new.state = 'proved' and exists (select from tricks where left_over > 0) then
                     update tricks set left_over = left_over - 1;
                     insert into system_metrics (series_id, sampled_at, value)
                         select min(id), '2026-01-01 05:00:00Z', 7 from metric_series;
                 end if;
                 return null;
             end $$;
             create trigger trick after update on archives for each row execute function trick()",
        )
        .await
        .unwrap();
    let report = house.run_on(after(first, 91)).await;
    // The hour has to be rolled up again first; nothing was detached meanwhile.
    assert!(!report.is_success());
    assert_eq!(house.number("select count(*) from system_metrics").await, 3);
    house.roll_up_to(after(first, 91)).await;
    let report = house.run_on(after(first, 91)).await;
    assert_eq!(report.archived_rows(Dataset::Metrics), 3, "{report:?}");
}

#[tokio::test]
async fn one_run_goes_at_a_time_and_a_lost_one_is_refused() {
    let house = House::on("2026-01-01").await;
    let sql = "insert into retention_runs (began_at, began_by, lease_expires_at)
               values ('2026-01-01 00:00:00Z', 'another', '2026-01-01 02:10:00Z')";
    house.admin.execute(sql, &[]).await.unwrap();
    let retention = house.store.retention().unwrap();
    let now = start(day("2026-01-01")) + TimeDelta::hours(2);
    house.clock.set(now);
    let refused = retention.run(now, ACTOR).await.unwrap_err();
    assert_eq!(refused.code(), "retention_running");
    let now = now + TimeDelta::hours(1);
    house.clock.set(now);
    assert!(retention.run(now, ACTOR).await.unwrap().is_success());
    let client = house.db.client(utxoiq_store::db::roles::RETENTION).await;
    let late = client
        .execute("select archive_check_run(1)", &[])
        .await
        .unwrap_err();
    // Only the owner's functions call that one; through them the lost run is refused.
    assert_eq!(late.code().unwrap().code(), "42501");
    let late = "select archive_begin(1, gen_random_uuid(), 'feedback', '2020-01-01', 'k', null, 'x', null, null, '2026-01-01')";
    let late = client.execute(late, &[]).await.unwrap_err();
    assert_eq!(late.code().unwrap().code(), "UT010");
}

#[tokio::test]
async fn what_becomes_of_a_jobs_errors_while_it_is_archived_is_archived() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house.job("blocks", "failed", start(first)).await;
    // Somebody has changed an error and a checkpoint, and commits a moment after the deletion began to wait.
    let writer = house.db.admin().await;
    writer
        .batch_execute(
            "begin; update backfill_errors set message = 'precious'; update backfill_checkpoints set block_hash = 'precious'",
        )
        .await
        .unwrap();
    let commit = async {
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        writer.batch_execute("commit").await.unwrap();
    };
    let (report, ()) = tokio::join!(house.run_on(after(first, 181)), commit);
    assert_eq!(report.archived_rows(Dataset::BackfillJobs), 1, "{report:?}");
    assert_eq!(
        house.number("select count(*) from backfill_errors").await,
        0
    );
    let retention = house.store.retention().unwrap();
    let sql = "select id from archives where state = 'archived'";
    let id = house.admin.query_one(sql, &[]).await.unwrap().get(0);
    let archive = retention.archive(id).await.unwrap();
    let cold = house.store.cold().unwrap();
    let fetched = cold.fetch(&archive.stored().unwrap()).await.unwrap();
    let rows = fetched.rows().unwrap().next().await.unwrap().unwrap();
    for part in ["errors", "checkpoints"] {
        assert!(
            rows[0][part].as_str().unwrap().contains("precious"),
            "{rows:?}"
        );
    }
}
