//! Comments on an insight, and a user's own acts.

use std::cmp::Reverse;

use utxoiq_store::feedback::{Entry, Fact, Page};

use super::{all_by_cursor, at, entries, fold, insert, random, store};

#[tokio::test]
async fn comments_are_paged_after_filtering_and_counted_folded_or_not() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let mut random = random();
    let mut written = entries(&mut random, 700);
    let later = written.split_off(400);
    insert(&admin, &written).await;
    fold(&admin).await;
    insert(&admin, &later).await;
    written.extend(later);
    // Some comments are withdrawn again, also folded ones.
    for entry in written.iter_mut().step_by(4) {
        if entry.comment.is_some() && entry.rating.is_some() {
            let sql = "update insight_feedback set comment = null where id = $1";
            admin.execute(sql, &[&entry.id]).await.unwrap();
            entry.comment = None;
        }
    }
    let feedback = store.feedback();
    let mut insights: Vec<&str> = written.iter().map(|e| e.insight_id.as_str()).collect();
    insights.sort_unstable();
    insights.dedup();
    for insight in insights {
        let mut expected: Vec<&Entry> = written
            .iter()
            .filter(|entry| entry.insight_id == insight && entry.comment.is_some())
            .collect();
        expected.sort_by_key(|entry| Reverse((entry.commented_at, entry.id)));
        let total = i64::try_from(expected.len()).unwrap();
        let found = all_by_cursor(&mut random, async |page| {
            let found = feedback.comments(insight, &page).await?;
            assert_eq!(found.total, total);
            // Each page but the last is full.
            assert!(found.next.is_none() || usize::try_from(page.limit) == Ok(found.entries.len()));
            Ok((found.entries, found.next))
        });
        assert!(found.await.iter().eq(expected), "{insight}");
    }
    let found = feedback
        .comments("unknown", &Page::first(10))
        .await
        .unwrap();
    assert_eq!((found.entries, found.total, found.next), (vec![], 0, None));
}

#[tokio::test]
async fn deltas_below_the_bound_count_only_where_the_bound_is_of_another_cluster() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    insert(&admin, &entries(&mut random(), 300)).await;
    fold(&admin).await;
    let page = Page::first(100);
    let feedback = store.feedback();
    let from = at(0).date_naive();
    let count = async || {
        let comments = feedback.comments("insight-0000", &page).await.unwrap();
        let until = from + chrono::Days::new(1);
        let day = feedback.trend(Some("insight-0000"), from, until).await;
        let ratings = day.unwrap()[0].ratings;
        let top = feedback.top(utxoiq_store::feedback::Ranking::LowerBound, 1, &page);
        let top = top.await.unwrap().insights;
        let ranked = top.iter().find(|one| one.insight_id == "insight-0000");
        (comments.total, ratings, ranked.unwrap().total_ratings)
    };
    let (comments, day_ratings, ratings) = count().await;
    assert!(comments > 0 && day_ratings > 0 && ratings > 0);
    // What a fold has just deleted is seen by its index entries until vacuum comes: it is below the bound.
    admin
        .batch_execute(&format!(
            "insert into feedback_deltas values ('insight-0000', '3', 0, 0, 0, 0, 10, 10, 0, 0, 0, 0, 0);
             insert into feedback_day_deltas values ('insight-0000', '{from}', '3', 10, 50, 0, 0, 0)"
        ))
        .await
        .unwrap();
    assert_eq!(count().await, (comments, day_ratings, ratings));
    // Restored into another cluster, the bound says nothing.
    let moved = "update feedback_fold set system_identifier = system_identifier + 1";
    admin.batch_execute(moved).await.unwrap();
    let more = (comments + 10, day_ratings + 10, ratings + 10);
    assert_eq!(count().await, more);
}

#[tokio::test]
async fn a_history_is_the_users_own_latest_first() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let mut random = random();
    let written = entries(&mut random, 300);
    insert(&admin, &written).await;
    admin
        .batch_execute(
            "update insight_feedback set rating = rating % 5 + 1 where rating is not null;
             update insight_feedback set comment = null where comment is not null and rating is not null;
             update insight_feedback set flag_type = 'other', flag_reason = 'why' where flag_type is not null",
        )
        .await
        .unwrap();
    let rows = admin
        .query(
            "select id, insight_id, user_id, fact from feedback_history order by id desc",
            &[],
        )
        .await
        .unwrap();
    let recorded: Vec<(i64, String, String, String)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let feedback = store.feedback();
    for entry in written.iter().step_by(20) {
        for insight in [None, Some(entry.insight_id.as_str())] {
            let expected: Vec<i64> = recorded
                .iter()
                .filter(|(_, on, user, _)| {
                    *user == entry.user_id && insight.is_none_or(|insight| insight == on)
                })
                .map(|(id, ..)| *id)
                .collect();
            let acts = all_by_cursor(&mut random, async |page| {
                let acts = feedback.history(&entry.user_id, insight, &page).await?;
                Ok((acts.acts, acts.next))
            })
            .await;
            assert!(acts.iter().map(|act| act.id).eq(expected));
            assert!(acts.iter().all(|act| act.user_id == entry.user_id));
            for act in &acts {
                let is_withdrawn = act.fact == Fact::Comment && act.comment.is_none();
                assert_eq!(act.is_withdrawal(), is_withdrawn, "{act:?}");
            }
        }
    }
}
