//! Rating, commenting, flagging and withdrawing.

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use utxoiq_store::{
    Kind,
    db::TransactionId,
    feedback::{Counts, Entry, Fact, FlagType, Written, load_stats},
};

use super::{assert_no_drift, at, counts, days, noon, number, store};

#[tokio::test]
async fn two_hundred_first_ratings_at_once_by_one_user_are_all_answered_and_make_one_row() {
    let (db, store) = store().await;
    let calls = (0..200_i16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let rated = store
                .feedback()
                .rate("i", "u", n % 5 + 1, None, noon())
                .await;
            (n % 5 + 1, rated.unwrap())
        })
    });
    let mut answers: Vec<_> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    answers.sort_by_key(|(_, written)| written.entry.updated_at);
    for (rating, written) in &answers {
        assert_eq!(
            written.entry.rating,
            Some(*rating),
            "each answer is its own"
        );
        assert_eq!(written.entry.rated_at, Some(written.entry.updated_at));
        assert_eq!(written.entry.created_at, noon());
        assert_eq!(written.entry.id, answers[0].1.entry.id);
    }
    assert!(answers.is_sorted_by(|a, b| a.1.entry.updated_at < b.1.entry.updated_at));
    assert!(answers.is_sorted_by(|a, b| a.1.transaction < b.1.transaction));
    let admin = db.admin().await;
    assert_eq!(
        number(&admin, "select count(*) from insight_feedback").await,
        1
    );
    let last = answers[199].0;
    let mut expected = [0; 5];
    expected[usize::try_from(last).unwrap() - 1] = 1;
    assert_eq!(counts(&store, "i").await.ratings, expected);
    assert_no_drift(&store).await;
    // The history has each change, in order; the same rating again is none.
    let mut acts: Vec<i16> = answers.iter().map(|(rating, _)| *rating).collect();
    acts.dedup();
    let rows = admin
        .query("select rating from feedback_history order by id", &[])
        .await
        .unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row.get::<_, i16>(0))
            .collect::<Vec<_>>(),
        acts
    );
}

/// Facts, each with the second it is from, and the second of the last change.
fn shown(written: &Written) -> String {
    let Entry {
        rating,
        comment,
        flag_type,
        flag_reason,
        ..
    } = &written.entry;
    let since = |time: Option<DateTime<Utc>>| time.map_or(-1, |time| (time - noon()).num_seconds());
    let mut parts = Vec::new();
    if let Some(rating) = rating {
        parts.push(format!("{rating} @{}", since(written.entry.rated_at)));
    }
    if let Some(comment) = comment {
        parts.push(format!(
            "{comment:?} @{}",
            since(written.entry.commented_at)
        ));
    }
    if let Some(kind) = flag_type {
        let reason = flag_reason.as_deref().unwrap_or("no reason");
        parts.push(format!(
            "{kind}, {reason} @{}",
            since(written.entry.flagged_at)
        ));
    }
    parts.push(format!(
        "changed @{}",
        since(Some(written.entry.updated_at))
    ));
    parts.join("; ")
}

#[tokio::test]
async fn rating_comment_and_flag_are_separate_facts_each_withdrawn_alone() {
    let (db, store) = store().await;
    let feedback = store.feedback();
    let advertisement = Some("an advertisement");
    let written = [
        feedback.rate("i", "u", 4, Some("good"), at(0)).await,
        feedback.rate("i", "u", 2, None, at(10)).await,
        feedback.comment("i", "u", "less good", at(20)).await,
        feedback
            .flag("i", "u", FlagType::Spam, advertisement, at(30))
            .await,
        feedback.flag("i", "u", FlagType::Other, None, at(40)).await,
        feedback.withdraw("i", "u", Fact::Comment, at(50)).await,
        feedback.withdraw("i", "u", Fact::Rating, at(60)).await,
        feedback.withdraw("i", "u", Fact::Flag, at(70)).await,
    ];
    assert_eq!(
        written.map(|written| shown(&written.unwrap())),
        [
            r#"4 @0; "good" @0; changed @0"#,
            r#"2 @10; "good" @0; changed @10"#,
            r#"2 @10; "less good" @20; changed @20"#,
            r#"2 @10; "less good" @20; spam, an advertisement @30; changed @30"#,
            r#"2 @10; "less good" @20; other, no reason @40; changed @40"#,
            r"2 @10; other, no reason @40; changed @50",
            r"other, no reason @40; changed @60",
            r"changed @70",
        ]
    );
    let admin = db.admin().await;
    assert_eq!(
        number(&admin, "select count(*) from insight_feedback").await,
        0
    );
    assert_eq!(counts(&store, "i").await, Counts::default());
    for fact in Fact::ALL {
        let missing = feedback.withdraw("i", "u", fact, at(80)).await.unwrap_err();
        assert_eq!(
            (missing.kind(), missing.code()),
            (Kind::NotFound, "nothing_to_withdraw")
        );
    }
    let acts = "select concat_ws(' ', fact, rating, comment, flag_type, flag_reason,
                                 '@' || extract(epoch from occurred_at)::bigint - 1750000000)
                from feedback_history order by id";
    let acts = admin.query(acts, &[]).await.unwrap();
    let acts: Vec<&str> = acts.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        acts,
        [
            "rating 4 @0",
            "comment good @0",
            "rating 2 @10",
            "comment less good @20",
            "flag spam an advertisement @30",
            "flag other @40",
            "comment @50",
            "rating @60",
            "flag @70",
        ]
    );
    assert_eq!(days(&admin).await, ["i 2025-06-15 2 6 2 2 3"]);
    assert_no_drift(&store).await;
    // The user may begin anew.
    let anew = feedback
        .rate("i", "u", 5, None, at(90))
        .await
        .unwrap()
        .entry;
    assert_eq!(
        (anew.created_at, counts(&store, "i").await.total_ratings()),
        (at(90), 1)
    );
}

#[tokio::test]
async fn each_change_has_a_later_time_also_when_clocks_go_back() {
    let (_db, store) = store().await;
    let feedback = store.feedback();
    feedback.rate("i", "u", 4, None, at(100)).await.unwrap();
    let rated = feedback.rate("i", "u", 3, None, at(0)).await.unwrap().entry;
    assert_eq!(
        rated.updated_at,
        at(100) + chrono::TimeDelta::microseconds(1)
    );
    assert_eq!(rated.rated_at, Some(rated.updated_at));
    let commented = feedback
        .comment("i", "u", "late", at(0))
        .await
        .unwrap()
        .entry;
    assert_eq!(
        (commented.rated_at, commented.commented_at),
        (rated.rated_at, Some(commented.updated_at))
    );
    assert!(commented.updated_at > rated.updated_at);
    let left = feedback
        .withdraw("i", "u", Fact::Rating, at(0))
        .await
        .unwrap()
        .entry;
    assert!(left.updated_at > commented.updated_at);
}

#[tokio::test]
async fn what_the_table_would_refuse_never_reaches_it() {
    let (db, store) = store().await;
    let feedback = store.feedback();
    let long = |n: usize| "é".repeat(n);
    let refused = [
        ("insight_id", feedback.rate("", "u", 1, None, noon()).await),
        (
            "insight_id",
            feedback.rate(&long(101), "u", 1, None, noon()).await,
        ),
        (
            "insight_id",
            feedback.rate("a\0b", "u", 1, None, noon()).await,
        ),
        (
            "insight_id",
            feedback.rate("  ", "u", 1, None, noon()).await,
        ),
        ("user_id", feedback.rate("i", "", 1, None, noon()).await),
        ("user_id", feedback.rate("i", "a\nb", 1, None, noon()).await),
        (
            "user_id",
            feedback.rate("i", &long(1_000_000), 1, None, noon()).await,
        ),
        ("rating", feedback.rate("i", "u", 0, None, noon()).await),
        ("rating", feedback.rate("i", "u", 6, None, noon()).await),
        (
            "comment",
            feedback.rate("i", "u", 5, Some(""), noon()).await,
        ),
        (
            "comment",
            feedback.comment("i", "u", &long(1_001), noon()).await,
        ),
        ("comment", feedback.comment("i", "u", "a\0b", noon()).await),
        (
            "flag_reason",
            feedback
                .flag("i", "u", FlagType::Spam, Some(&long(501)), noon())
                .await,
        ),
        (
            "flag_reason",
            feedback
                .flag("i", "u", FlagType::Spam, Some(" "), noon())
                .await,
        ),
        (
            "user_id",
            feedback.withdraw("i", "\0", Fact::Flag, noon()).await,
        ),
    ];
    for (field, result) in refused {
        let error = result.unwrap_err();
        let fields: Vec<&str> = error
            .field_errors()
            .iter()
            .map(|error| &*error.field)
            .collect();
        assert_eq!((error.kind(), fields), (Kind::Invalid, vec![field]));
    }
    assert_eq!(store.feedback_writer().snapshot().commits_total, 0);
    // What just fits is taken.
    feedback
        .rate(&long(100), &long(100), 5, Some(&long(1_000)), noon())
        .await
        .unwrap();
    feedback
        .flag(
            &long(100),
            &long(100),
            FlagType::Other,
            Some(&long(500)),
            noon(),
        )
        .await
        .unwrap();
    assert_eq!(
        number(&db.admin().await, "select count(*) from insight_feedback").await,
        1
    );
}

#[tokio::test]
async fn a_write_names_its_transaction_and_a_later_read_sees_it() {
    let (db, store) = store().await;
    let before = load_stats(store.pool(), &["i".to_owned()]).await.unwrap();
    let written = store
        .feedback()
        .rate("i", "u", 5, None, noon())
        .await
        .unwrap();
    let after = load_stats(
        store.pool(),
        &["i".to_owned(), "other".to_owned(), "i".to_owned()],
    )
    .await
    .unwrap();
    assert!(!before.snapshot.sees(written.transaction) && after.snapshot.sees(written.transaction));
    assert!(after.snapshot.includes(&before.snapshot));
    let ids: Vec<&str> = after.stats.iter().map(|stats| &*stats.insight_id).collect();
    assert_eq!(ids, ["i", "other", "i"]);
    assert_eq!(after.stats[0], after.stats[2]);
    assert_eq!(
        (
            after.stats[0].live.ratings,
            after.stats[1].live.total_ratings()
        ),
        ([0, 0, 0, 0, 1], 0)
    );
    let admin = db.admin().await;
    let outbox: String = admin
        .query_one("select x::text from cache_outbox where key = 'i'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(
        outbox.parse::<TransactionId>().unwrap(),
        written.transaction
    );
    let withdrawn = store
        .feedback()
        .withdraw("i", "u", Fact::Rating, noon())
        .await
        .unwrap();
    assert!(withdrawn.transaction > written.transaction);
}
