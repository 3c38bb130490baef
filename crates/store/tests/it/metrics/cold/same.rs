//! The same bytes before and after archiving.

use chrono::TimeDelta;
use tempfile::TempDir;
use utxoiq_store::{Store, cold::Dataset, retention::Held};
use utxoiq_store_testkit::urls::seed as seed_of_run;

use super::{DAYS, Numbers, assert_same, everything, first, seed, stream};
use crate::retention::{ACTOR, House, after, start};

/// A process with small limits, so that whole reads take many parts.
fn frugal(house: &House) -> Store {
    house.another_with(&[("UTXOIQ_STORE_METRICS__MAX_SAMPLES_PER_READ", "97")])
}

/// Puts a day back as a restore does.
async fn restore(house: &House, day: chrono::NaiveDate) {
    let name = format!("system_metrics_{}", day.format("%Y%m%d"));
    let sql = format!(
        "do $$ declare its uuid := (select id from archives where dataset = 'metrics' and day = '{day}' and state = 'archived');
         begin
             perform archive_restore_day_begin(its);
             insert into {name} select * from kept where sampled_at >= '{day} 00:00Z' and sampled_at < '{day} 00:00Z'::timestamptz + interval '1 day';
             perform archive_restore_day(its, gen_random_uuid(), '2030-01-01Z', 'a test', '2026-06-01Z', 'test');
         end $$"
    );
    house.admin.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn every_read_gives_the_same_bytes_before_and_after_archiving() {
    let house = House::on("2026-01-01").await;
    let mut numbers = Numbers(seed_of_run());
    seed(&house, &mut numbers).await;
    house
        .admin
        .batch_execute("create table kept as select * from system_metrics")
        .await
        .unwrap();
    let before = everything(&house.store).await;
    let streamed = before.iter().filter(|(what, _)| what.starts_with("stream"));
    assert!(streamed.clone().any(|(_, text)| text.contains("-0.0")));
    let whole = super::selector(None, None, None, super::ranges()[0]);
    let all = stream(&house.store, &whole).await;
    assert_eq!(stream(&frugal(&house), &whole).await, all);

    // Some days are held, and one is stopped between its two steps.
    let mut days: Vec<u64> = (0..DAYS).collect();
    let stopped = days.remove(numbers.place(3));
    let held: Vec<u64> = vec![
        days.remove(numbers.place(days.len())),
        days.remove(numbers.place(days.len())),
    ];
    let retention = house.store.retention().unwrap();
    let mut holds = Vec::new();
    for day in held {
        let held = Held::Day {
            dataset: Some(Dataset::Metrics),
            first_day: after(first(), day),
            last_day: after(first(), day),
        };
        let now = start(after(first(), 90));
        let hold = retention.place_hold(held, "mixed", None, now, ACTOR).await;
        holds.push(hold.unwrap());
    }
    house
        .admin
        .batch_execute(&format!(
            "create function stop() returns trigger language plpgsql as $$ begin
                 if new.day = '{}' and new.state = 'archived' then raise 'stopped'; end if;
                 return new;
             end $$;
             create trigger stop before update on archives for each row execute function stop()",
            after(first(), stopped)
        ))
        .await
        .unwrap();
    house.run_on(after(first(), 120)).await;
    assert_eq!(
        house
            .number("select count(*) from metric_days where state = 'detached'")
            .await,
        1
    );
    assert!(
        house
            .number("select count(*) from metric_days where state = 'archived'")
            .await
            >= 2
    );
    assert_same(
        &everything(&house.store).await,
        &before,
        "mixed, with a cache",
    );
    assert_same(&everything(&house.another()).await, &before, "mixed");
    assert_eq!(stream(&frugal(&house), &whole).await, all);

    let sql = "drop trigger stop on archives";
    house.admin.batch_execute(sql).await.unwrap();
    let now = start(after(first(), 120)) + TimeDelta::hours(3);
    for hold in holds {
        retention
            .release_hold(hold.id, "over", now, ACTOR)
            .await
            .unwrap();
    }
    let report = house.run_on(after(first(), 121)).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(house.number("select count(*) from system_metrics").await, 0);
    assert_same(
        &everything(&house.store).await,
        &before,
        "archived, with a cache",
    );
    assert_eq!(stream(&frugal(&house), &whole).await, all);

    // A read that knows where the days are when one of them is restored and its object goes.
    let copies = TempDir::new().unwrap();
    let folder = copies.path().join("c").display().to_string();
    let fresh = house.another_with(&[("UTXOIQ_STORE_COLD__CACHE_DIR", &folder)]);
    let mut read = fresh.metrics().samples(&whole, None).await.unwrap();
    restore(&house, after(first(), 2)).await;
    std::fs::remove_dir_all(house.cold.path().join("metrics/day=2026-01-03")).unwrap();
    assert_eq!(super::rest_of(&mut read).await, all);
    assert!(house.number("select count(*) from system_metrics").await > 0);
    assert_same(&everything(&house.another()).await, &before, "restored");
    assert_same(
        &everything(&house.store).await,
        &before,
        "restored, with a cache",
    );
    assert_eq!(stream(&frugal(&house), &whole).await, all);
}
