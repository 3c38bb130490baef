//! The trend.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use rand::RngExt as _;
use utxoiq_store::feedback::{MAX_TREND_DAYS, TrendDay};

use super::{fold, random, store};

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

/// A time near a day's border, to the microsecond.
fn near_midnight(day: NaiveDate, microseconds: i64) -> DateTime<Utc> {
    day.and_hms_opt(0, 0, 0).unwrap().and_utc() + TimeDelta::microseconds(microseconds)
}

#[tokio::test]
async fn each_day_has_what_was_done_on_it_also_when_that_is_nothing() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    // The clocks change on 2026-03-29 there; days are counted in UTC all the same.
    admin
        .batch_execute("set timezone = 'Europe/Berlin'")
        .await
        .unwrap();
    let mut random = random();
    let first = day(2026, 3, 27);
    let mut model: BTreeMap<(String, NaiveDate), TrendDay> = BTreeMap::new();
    for n in 0..200_i64 {
        let insight = format!("insight-{}", random.random_range(0..3));
        let on = first + Days::new(random.random_range(0..4) * 2);
        let at = near_midnight(on, [-1, 0, 1, 43_200_000_000][random.random_range(0..4)]);
        let rating = random.random_range(1..=5_i16);
        let kind = random.random_range(0..4);
        let id = uuid::Uuid::from_u128(random.random());
        let (comment, flag) = ((kind == 1).then_some("so"), (kind == 2).then_some("spam"));
        admin
            .execute(
                "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, comment, commented_at, flag_type,
                     flagged_at, created_at, updated_at)
                 values ($1, $2, $3, $4, $5, $6, case when $6::text is not null then $5::timestamptz end, $7,
                     case when $7::text is not null then $5::timestamptz end, $5, $5)",
                &[&id, &insight, &format!("user-{n}"), &rating, &at, &comment, &flag],
            )
            .await
            .unwrap();
        let mut add = |at: DateTime<Utc>, act: &dyn Fn(&mut TrendDay)| {
            let day = at.date_naive();
            let entry = model.entry((insight.clone(), day)).or_insert(empty(day));
            act(entry);
        };
        add(at, &|day| {
            day.ratings += 1;
            day.rating_sum += i64::from(rating);
            day.comments += i64::from(kind == 1);
            day.flags += i64::from(kind == 2);
        });
        // Changed or withdrawn two microseconds later, which may be the next day.
        let later = at + TimeDelta::microseconds(2);
        if n % 5 == 0 {
            let sql = "update insight_feedback set rating = 1 + rating % 5, rated_at = $2, updated_at = $2 where id = $1";
            admin.execute(sql, &[&id, &later]).await.unwrap();
            add(later, &|day| {
                day.ratings += 1;
                day.rating_sum += i64::from(1 + rating % 5);
            });
        } else if kind == 1 {
            let sql = "update insight_feedback set comment = null, commented_at = null, updated_at = $2 where id = $1";
            admin.execute(sql, &[&id, &later]).await.unwrap();
            add(later, &|day| day.withdrawals += 1);
        }
        if n == 120 {
            fold(&admin).await;
        }
    }
    let (from, to) = (day(2026, 3, 25), day(2026, 4, 5));
    let feedback = store.feedback();
    for insight in ["insight-0", "insight-1", "insight-2", "unknown"] {
        let trend = feedback.trend(Some(insight), from, to).await.unwrap();
        let expected: Vec<TrendDay> = from
            .iter_days()
            .take_while(|day| *day < to)
            .map(|day| *model.get(&(insight.to_owned(), day)).unwrap_or(&empty(day)))
            .collect();
        assert_eq!(trend, expected, "{insight}");
        assert!(trend.iter().any(|day| day.average_rating().is_none()));
    }
    let overall = feedback.trend(None, from, to).await.unwrap();
    for found in &overall {
        let of_day = model.iter().filter(|((_, day), _)| *day == found.day);
        let sum = of_day.fold(empty(found.day), |sum, (_, day)| TrendDay {
            day: sum.day,
            ratings: sum.ratings + day.ratings,
            rating_sum: sum.rating_sum + day.rating_sum,
            comments: sum.comments + day.comments,
            flags: sum.flags + day.flags,
            withdrawals: sum.withdrawals + day.withdrawals,
        });
        assert_eq!(*found, sum);
    }
    assert_eq!(overall.len(), 11);
}

fn empty(day: NaiveDate) -> TrendDay {
    TrendDay {
        day,
        ratings: 0,
        rating_sum: 0,
        comments: 0,
        flags: 0,
        withdrawals: 0,
    }
}

#[tokio::test]
async fn a_trend_is_bounded() {
    let (_db, store) = store().await;
    let feedback = store.feedback();
    let from = day(2025, 1, 1);
    let longest = from + Days::new(u64::try_from(MAX_TREND_DAYS).unwrap());
    let trend = feedback.trend(None, from, longest).await.unwrap();
    assert_eq!(trend.len(), 1_100);
    let error = feedback.trend(None, from, longest + Days::new(1)).await;
    assert_eq!(error.unwrap_err().field_errors()[0].field, "to");
    let ends = [
        (from, from),
        (longest, from),
        (NaiveDate::MAX, NaiveDate::MIN),
    ];
    for (from, to) in ends {
        assert_eq!(feedback.trend(None, from, to).await.unwrap(), []);
    }
    for from in [NaiveDate::MIN, NaiveDate::MAX - Days::new(5)] {
        let error = feedback.trend(None, from, from + Days::new(5)).await;
        assert_eq!(error.unwrap_err().field_errors()[0].field, "from");
    }
}
