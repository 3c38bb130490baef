//! Reading feedback, against a model in memory. Rows are written with plain SQL; triggers count them and keep the history.

mod export;
mod lists;
mod plans;
mod ranking;
mod review;
mod search;
mod trend;

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio_postgres::Client;
use utxoiq_store::{
    Result, Store,
    feedback::{Cursor, Entry, FlagType, FlaggedFilter, Page},
};
use utxoiq_store_testkit::urls;
use uuid::Uuid;

use crate::support::TestDb;

/// A moment to count from.
pub fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 123_456_000).unwrap()
}

pub fn at(seconds: i64) -> DateTime<Utc> {
    noon() + TimeDelta::seconds(seconds)
}

pub async fn store() -> (TestDb, Store) {
    let db = TestDb::new().await;
    let store = db.store().await;
    (db, store)
}

pub fn random() -> StdRng {
    StdRng::seed_from_u64(urls::seed())
}

/// Entries with few users, insights and times, so that many conditions meet and many times are equal.
pub fn entries(random: &mut StdRng, count: usize) -> Vec<Entry> {
    let mut pairs = std::collections::BTreeSet::new();
    while pairs.len() < count {
        // A few insights and users have most of them.
        let skewed = |random: &mut StdRng, n: u32| {
            let first = random.random_range(0..n);
            random.random_range(0..=first)
        };
        pairs.insert((skewed(random, 40), skewed(random, 60)));
    }
    let made = pairs.into_iter();
    made.map(|(insight, user)| entry(random, insight, user))
        .collect()
}

fn entry(random: &mut StdRng, insight: u32, user: u32) -> Entry {
    let has = loop {
        let has = [0.8, 0.4, 0.3].map(|share| random.random_bool(share));
        if has.contains(&true) {
            break has;
        }
    };
    let mut time = || at(random.random_range(0..120));
    let created_at = time();
    let mut later = || created_at.max(time());
    let (rated_at, commented_at, flagged_at) = (later(), later(), later());
    let given = [rated_at, commented_at, flagged_at];
    let updated_at = given.into_iter().zip(has).filter(|(_, has)| *has);
    let updated_at = updated_at.map(|(at, _)| at).max().unwrap();
    let flag_type = FlagType::ALL[random.random_range(0..5)];
    let reason = random.random_bool(0.6).then(|| format!("reason {user}"));
    Entry {
        id: Uuid::from_u128(random.random()),
        insight_id: format!("insight-{insight:04}"),
        user_id: format!("user-{user:04}"),
        rating: has[0].then(|| random.random_range(1..=5)),
        rated_at: has[0].then_some(rated_at),
        comment: has[1].then(|| format!("comment of {user} on {insight}")),
        commented_at: has[1].then_some(commented_at),
        flag_type: has[2].then_some(flag_type),
        flag_reason: reason.filter(|_| has[2]),
        flagged_at: has[2].then_some(flagged_at),
        created_at,
        updated_at,
    }
}

/// Writes entries as somebody with psql would.
pub async fn insert(admin: &Client, entries: &[Entry]) {
    macro_rules! column {
        ($field:ident) => {
            entries
                .iter()
                .map(|entry| entry.$field.clone())
                .collect::<Vec<_>>()
        };
    }
    let flags: Vec<_> = entries
        .iter()
        .map(|entry| entry.flag_type.map(FlagType::as_str))
        .collect();
    admin
        .execute(
            "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, comment, commented_at, flag_type,
                 flag_reason, flagged_at, created_at, updated_at)
             select * from unnest($1::uuid[], $2::text[], $3::text[], $4::int2[], $5::timestamptz[], $6::text[],
                 $7::timestamptz[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[])",
            &[
                &column!(id),
                &column!(insight_id),
                &column!(user_id),
                &column!(rating),
                &column!(rated_at),
                &column!(comment),
                &column!(commented_at),
                &flags,
                &column!(flag_reason),
                &column!(flagged_at),
                &column!(created_at),
                &column!(updated_at),
            ],
        )
        .await
        .unwrap();
}

/// Moves every delta into the folded rows, and says so.
pub async fn fold(admin: &Client) {
    admin
        .batch_execute(
            "begin;
             insert into feedback_stats as s
             select insight_id, sum(ratings_1), sum(ratings_2), sum(ratings_3), sum(ratings_4), sum(ratings_5), sum(comments),
                    sum(flags_inaccurate), sum(flags_misleading), sum(flags_spam), sum(flags_inappropriate), sum(flags_other)
             from feedback_deltas group by insight_id
             on conflict (insight_id) do update set
                 ratings_1 = s.ratings_1 + excluded.ratings_1, ratings_2 = s.ratings_2 + excluded.ratings_2,
                 ratings_3 = s.ratings_3 + excluded.ratings_3, ratings_4 = s.ratings_4 + excluded.ratings_4,
                 ratings_5 = s.ratings_5 + excluded.ratings_5, comments = s.comments + excluded.comments;
             insert into feedback_days as s
             select insight_id, day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals)
             from feedback_day_deltas group by insight_id, day
             on conflict (insight_id, day) do update set
                 ratings = s.ratings + excluded.ratings, rating_sum = s.rating_sum + excluded.rating_sum,
                 comments = s.comments + excluded.comments, flags = s.flags + excluded.flags,
                 withdrawals = s.withdrawals + excluded.withdrawals;
             insert into feedback_overall_days as s
             select day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals)
             from feedback_day_deltas group by day
             on conflict (day) do update set
                 ratings = s.ratings + excluded.ratings, rating_sum = s.rating_sum + excluded.rating_sum,
                 comments = s.comments + excluded.comments, flags = s.flags + excluded.flags,
                 withdrawals = s.withdrawals + excluded.withdrawals;
             delete from feedback_deltas;
             delete from feedback_day_deltas;
             update feedback_fold set system_identifier = (select system_identifier from pg_control_system()),
                 stats_below = pg_current_xact_id(), days_below = pg_current_xact_id();
             commit;",
        )
        .await
        .unwrap();
}

/// Pages through a list by cursor; the pages' lengths are drawn.
pub async fn all_by_cursor<T>(
    random: &mut impl Rng,
    mut read: impl AsyncFnMut(Page) -> Result<(Vec<T>, Option<Cursor>)>,
) -> Vec<T> {
    let mut page = Page::first(random.random_range(1..=60));
    let mut all = Vec::new();
    loop {
        let (items, next) = read(page.clone()).await.unwrap();
        assert!(items.len() <= usize::try_from(page.limit).unwrap());
        all.extend(items);
        match next {
            // As a client has it: a text.
            Some(cursor) => {
                let cursor = cursor.to_string().parse().unwrap();
                page = Page::after(random.random_range(1..=60), cursor);
            }
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let (db, store) = store().await;
    let mut random = random();
    insert(&db.admin().await, &entries(&mut random, 200)).await;
    let feedback = store.feedback();
    let one = Page::first(1);
    let insight = "insight-0000";
    let user = "user-0000";
    let of_search = feedback.of_user(user, &one).await.unwrap().next;
    let of_comments = feedback.comments(insight, &one).await.unwrap().next;
    let of_history = feedback.history(user, None, &one).await.unwrap().next;
    let of_flagged = feedback.flagged(&FlaggedFilter::default(), &one).await;
    let of_flagged = of_flagged.unwrap().next;
    let rankings = utxoiq_store::feedback::Ranking::ALL;
    let of_top = feedback.top(rankings[0], 1, &one).await.unwrap().next;
    let of_other_top = feedback.top(rankings[1], 1, &one).await.unwrap().next;
    let cursors = [
        of_search,
        of_comments,
        of_history,
        of_flagged,
        of_top,
        of_other_top,
    ];
    for (of, cursor) in cursors.into_iter().enumerate() {
        let page = Page::after(10, cursor.expect("a second page"));
        let errors = [
            feedback.of_user(user, &page).await.err(),
            feedback.comments(insight, &page).await.err(),
            feedback.history(user, None, &page).await.err(),
            feedback
                .flagged(&FlaggedFilter::default(), &page)
                .await
                .err(),
            feedback.top(rankings[0], 1, &page).await.err(),
            feedback.top(rankings[1], 1, &page).await.err(),
        ];
        for (list, error) in errors.iter().enumerate() {
            let field = error
                .as_ref()
                .map(|error| error.field_errors()[0].field.as_str());
            assert_eq!(field, (list != of).then_some("cursor"), "{of} at {list}");
        }
    }
}

#[tokio::test]
async fn a_page_out_of_range_is_refused_and_one_beyond_the_end_is_empty() {
    let (db, store) = store().await;
    insert(&db.admin().await, &entries(&mut random(), 200)).await;
    let feedback = store.feedback();
    for limit in [i64::MIN, 0, 101, i64::MAX] {
        let error = feedback.of_user("user-0000", &Page::first(limit)).await;
        assert_eq!(error.unwrap_err().field_errors()[0].field, "limit");
    }
    let page = |offset| Page {
        limit: 100,
        start: utxoiq_store::feedback::Start::Offset(offset),
    };
    let error = feedback.comments("insight-0000", &page(-1)).await;
    assert_eq!(error.unwrap_err().field_errors()[0].field, "offset");
    let page = page(i64::MAX);
    let found = feedback.of_user("user-0000", &page).await.unwrap();
    assert!(found.entries.is_empty() && found.total > 0 && found.next.is_none());
    let found = feedback.comments("insight-0000", &page).await.unwrap();
    assert!(found.entries.is_empty() && found.total > 0);
    let found = feedback
        .flagged(&FlaggedFilter::default(), &page)
        .await
        .unwrap();
    assert!(found.insights.is_empty() && found.total > 0);
    for ranking in utxoiq_store::feedback::Ranking::ALL {
        let top = feedback.top(ranking, 1, &page).await.unwrap();
        assert!(top.insights.is_empty());
    }
    let acts = feedback.history("user-0000", None, &page).await.unwrap();
    assert!(acts.acts.is_empty());
}
