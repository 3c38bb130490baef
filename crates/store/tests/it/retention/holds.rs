//! Legal holds stop both: leaving the database, and leaving cold storage.

use chrono::TimeDelta;
use utxoiq_store::{cold::Dataset, retention::Held};

use super::{ACTOR, House, after, day, start};

#[tokio::test]
async fn a_held_day_stays_hot_and_a_held_archive_stays_cold_until_it_is_released() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house.samples("a", &[start(first)]).await;
    house.roll_up_to(after(first, 4)).await;
    let retention = house.store.retention().unwrap();
    let held = Held::Day {
        dataset: Some(Dataset::Metrics),
        first_day: first,
        last_day: first,
    };
    let hold = retention
        .place_hold(held.clone(), "case 1", None, start(first), ACTOR)
        .await
        .unwrap();
    let report = house.run_on(after(first, 100)).await;
    assert_eq!(
        (report.archived.len(), report.kept.len()),
        (0, 1),
        "{report:?}"
    );
    let now = start(after(first, 100));
    retention
        .release_hold(hold.id, "over", now, ACTOR)
        .await
        .unwrap();
    assert_eq!(house.run_on(after(first, 100)).await.archived.len(), 1);
    let until = start(after(first, 500));
    retention
        .place_hold(held, "case 2", Some(until), now, ACTOR)
        .await
        .unwrap();
    assert_eq!(house.run_on(after(first, 460)).await.expired.len(), 0);
    assert_eq!(house.objects(".parquet").len(), 1);
    // The task that runs each night releases what has ended.
    assert_eq!(
        retention.release_expired_holds(until, ACTOR).await.unwrap(),
        1
    );
    assert_eq!(house.run_on(after(first, 501)).await.expired.len(), 1);
    // That is a change of cached values of now, whatever time the run goes by.
    let sql = "select count(*) from cache_outbox where abs(extract(epoch from clock_timestamp() - written_at)) > 600";
    assert_eq!(house.number(sql).await, 0);
    assert!(house.objects("").is_empty());
    house.assert_chain().await;
}

#[tokio::test]
async fn rows_of_a_held_user_or_insight_stay_while_their_neighbours_go() {
    let house = House::on("2023-01-10").await;
    let first = day("2023-01-10");
    for n in 0..10_u8 {
        let (insight, user) = (format!("insight-{}", n % 2), format!("user-{n}"));
        let at = start(first) + TimeDelta::seconds(i64::from(n));
        house.feedback(&insight, &user, 3, at).await;
    }
    let retention = house.store.retention().unwrap();
    for held in [
        Held::User {
            user_id: "user-3".to_owned(),
        },
        Held::Insight {
            insight_id: "insight-0".to_owned(),
        },
    ] {
        retention
            .place_hold(held, "case 3", None, start(first), ACTOR)
            .await
            .unwrap();
    }
    let report = house.run_on(day("2025-01-11")).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(report.archived_rows(Dataset::Feedback), 4);
    assert_eq!(
        house.number("select count(*) from insight_feedback").await,
        6
    );
    assert_eq!(
        house.number("select count(*) from feedback_history").await,
        12
    );
    // The log names no user.
    let named =
        "select count(*) from audit_log where subject like '%user-3%' or details like '%user-3%'";
    assert_eq!(house.number(named).await, 0);
}
