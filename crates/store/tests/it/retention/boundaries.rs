//! The day before, the day, the day after; and what stays whatever its age.

use chrono::{NaiveDate, TimeDelta};
use utxoiq_store::cold::Dataset;

use super::{House, after, day, start};

/// Whether a job is still there on days after its end.
#[tokio::test]
async fn jobs_leave_on_day_181_and_unfinished_ones_never() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    let late = start(first) + TimeDelta::hours(24) - TimeDelta::microseconds(1);
    for (job_type, status) in [
        ("a", "completed"),
        ("b", "failed"),
        ("c", "cancelled"),
        ("d", "running"),
        ("e", "paused"),
    ] {
        house.job(job_type, status, late).await;
    }
    let mut left = Vec::new();
    for days in [179, 180, 181, 200] {
        house.run_on(after(first, days)).await;
        left.push(house.number("select count(*) from backfill_jobs").await);
    }
    assert_eq!(left, [5, 5, 2, 2]);
}

#[tokio::test]
async fn feedback_leaves_two_calendar_years_after_its_last_change() {
    let house = House::on("2024-02-29").await;
    for (user, at) in [
        ("before", "2024-02-28"),
        ("leap", "2024-02-29"),
        ("next", "2024-03-01"),
    ] {
        house.feedback("insight", user, 4, start(day(at))).await;
    }
    // Two years old, and edited yesterday.
    house
        .feedback("insight", "edited", 4, start(day("2024-02-01")))
        .await;
    let edit = "update insight_feedback set comment = 'better now', commented_at = $1, updated_at = $1 where user_id = 'edited'";
    house
        .admin
        .execute(edit, &[&start(day("2026-02-27"))])
        .await
        .unwrap();
    let mut left = Vec::new();
    for today in ["2026-02-28", "2026-03-01", "2026-03-02", "2026-03-10"] {
        let report = house.run_on(day(today)).await;
        assert!(report.is_success(), "{report:?}");
        let users: String = house
            .admin
            .query_one("select coalesce(string_agg(user_id, ' ' order by user_id), '') from insight_feedback", &[])
            .await
            .unwrap()
            .get(0);
        left.push(users);
    }
    assert_eq!(
        left,
        ["before edited leap next", "edited next", "edited", "edited"]
    );
    // Its old acts went; the edit is there.
    let acts = "select count(*) from feedback_history where user_id = 'edited'";
    assert_eq!(house.number(acts).await, 1);
    assert!(house.store.feedback().drift(10).await.unwrap().is_empty());
}

/// Where a day's archive is: none yet, cold, or gone.
async fn place(house: &House, dataset: Dataset, of: NaiveDate) -> &'static str {
    let sql = format!(
        "select count(*) filter (where state = 'archived') + 10 * count(*) filter (where state = 'expired' and removed_at is not null)
         from archives where dataset = '{}' and day = '{of}'",
        dataset.name()
    );
    match house.number(&sql).await {
        0 => "hot",
        1 => "cold",
        10 => "gone",
        _ => "in two places",
    }
}

#[tokio::test]
async fn archives_go_on_their_day_with_objects_and_rollups() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house.samples("a", &[start(first)]).await;
    house.roll_up_to(after(first, 9)).await;
    house.feedback("insight", "user", 5, start(first)).await;
    house.job("a", "completed", start(first)).await;
    let mut places = Vec::new();
    for today in [
        "2026-04-01",
        "2026-04-02",
        "2027-03-31",
        "2027-04-01",
        "2028-01-01",
        "2028-01-02",
        "2028-06-30",
        "2028-07-01",
        "2029-01-01",
        "2029-01-02",
    ] {
        let report = house.run_on(day(today)).await;
        assert!(report.is_success(), "{report:?}");
        let mut line = Vec::new();
        for dataset in [Dataset::Metrics, Dataset::BackfillJobs, Dataset::Feedback] {
            line.push(place(&house, dataset, first).await);
        }
        places.push(line.join(" "));
    }
    assert_eq!(
        places,
        [
            "hot hot hot",
            "cold hot hot",
            "cold cold hot",
            "gone cold hot",
            "gone cold hot",
            "gone cold cold",
            "gone cold cold",
            "gone gone cold",
            "gone gone cold",
            "gone gone gone",
        ]
    );
    assert!(house.objects("").is_empty(), "{:?}", house.objects(""));
    assert_eq!(house.number("select count(*) from metric_rollups").await, 0);
    house.assert_chain().await;
}
