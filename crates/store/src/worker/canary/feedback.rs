//! Feedback (C2), and its statistics without Redis (C4.5).

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Failed, Seen, Trial, expect};
use crate::{
    Store,
    feedback::{Entry, Filter, FlagType, Page},
};

const INSIGHT: &str = "probe-insight";

pub(super) async fn try_feedback(trial: &mut Trial<'_>, store: &Store, now: DateTime<Utc>) {
    trial
        .step("C2.2", "comment on an insight", comment(store, now))
        .await;
    trial
        .step("C2.3", "flag an insight", flag(store, now))
        .await;
    trial
        .step(
            "C2.5",
            "search by user, insight, dates and rating",
            search(store, now),
        )
        .await;
    trial
        .step("C4.5", "read statistics without Redis", statistics(store))
        .await;
}

/// The entry that a search finds of a user.
async fn of_user(store: &Store, user_id: &str) -> Seen<Entry> {
    let filter = Filter {
        user_id: Some(user_id.to_owned()),
        ..Filter::default()
    };
    let found = store.feedback().search(&filter, &Page::first(10)).await?;
    found
        .entries
        .into_iter()
        .next()
        .ok_or_else(|| "it was not stored".into())
}

async fn comment(store: &Store, now: DateTime<Utc>) -> Seen<(String, ())> {
    let text = "as the probe says";
    store
        .feedback()
        .comment(INSIGHT, "probe-commenter", text, now)
        .await?;
    let entry = of_user(store, "probe-commenter").await?;
    expect("the comment", &entry.comment.as_deref(), &Some(text))?;
    expect("its user", &entry.user_id.as_str(), &"probe-commenter")?;
    expect("its time", &entry.commented_at, &Some(now))?;
    Ok(("stored with its time and user".to_owned(), ()))
}

async fn flag(store: &Store, now: DateTime<Utc>) -> Seen<(String, ())> {
    let reason = "the probe doubts it";
    let feedback = store.feedback();
    let (user, kind) = ("probe-flagger", FlagType::Misleading);
    feedback
        .flag(INSIGHT, user, kind, Some(reason), now)
        .await?;
    let entry = of_user(store, "probe-flagger").await?;
    expect(
        "the flag's type",
        &entry.flag_type,
        &Some(FlagType::Misleading),
    )?;
    expect("its reason", &entry.flag_reason.as_deref(), &Some(reason))?;
    expect("its time", &entry.flagged_at, &Some(now))?;
    Ok(("stored with its type and reason".to_owned(), ()))
}

/// Three ratings that differ in one thing each, and four searches that each find those they should.
async fn search(store: &Store, now: DateTime<Utc>) -> Seen<(String, ())> {
    let earlier = now - TimeDelta::days(10);
    let rated = [
        ("probe-search-1", "probe-ann", 5, now),
        ("probe-search-1", "probe-bob", 2, earlier),
        ("probe-search-2", "probe-ann", 2, earlier),
    ];
    for (insight, user, rating, at) in rated {
        store
            .feedback()
            .rate(insight, user, rating, None, at)
            .await?;
    }
    let some = |text: &str| Some(text.to_owned());
    let filters = [
        (
            "by user",
            Filter {
                user_id: some("probe-ann"),
                ..Filter::default()
            },
            vec![0, 2],
        ),
        (
            "by insight",
            Filter {
                insight_id: some("probe-search-1"),
                ..Filter::default()
            },
            vec![0, 1],
        ),
        (
            "by dates",
            Filter {
                from: Some(earlier - TimeDelta::hours(1)),
                to: Some(earlier + TimeDelta::hours(1)),
                ..Filter::default()
            },
            vec![1, 2],
        ),
        (
            "by rating",
            Filter {
                rating: Some(2),
                ..Filter::default()
            },
            vec![1, 2],
        ),
    ];
    for (what, filter, wanted) in filters {
        let found = store.feedback().search(&filter, &Page::first(50)).await?;
        let seen: BTreeSet<(String, String)> = found
            .entries
            .into_iter()
            .filter(|entry| entry.insight_id.starts_with("probe-search"))
            .map(|entry| (entry.insight_id, entry.user_id))
            .collect();
        let wanted: BTreeSet<(String, String)> = wanted
            .into_iter()
            .map(|index: usize| (rated[index].0.to_owned(), rated[index].1.to_owned()))
            .collect();
        expect(&format!("what is found {what}"), &seen, &wanted)?;
    }
    Ok((
        "each search found those that match and no others".to_owned(),
        (),
    ))
}

async fn statistics(store: &Store) -> Result<(String, ()), Failed> {
    let stats = store.feedback().stats_seen("probe-search-1", None).await?;
    expect(
        "the number of ratings",
        &stats.value.live.total_ratings(),
        &2,
    )?;
    Ok(("the database answered".to_owned(), ()))
}
