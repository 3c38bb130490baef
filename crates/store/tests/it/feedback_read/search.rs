//! Searching.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use utxoiq_store::feedback::{Entry, Filter, FlagFilter, FlagType, Page, Start};
use uuid::Uuid;

use super::{all_by_cursor, at, entries, insert, random, store};

fn matches(filter: &Filter, entry: &Entry) -> bool {
    let flag = match filter.flag {
        None => true,
        Some(FlagFilter::Any) => entry.flag_type.is_some(),
        Some(FlagFilter::Of(kind)) => entry.flag_type == Some(kind),
    };
    flag && filter
        .user_id
        .as_ref()
        .is_none_or(|user| *user == entry.user_id)
        && filter
            .insight_id
            .as_ref()
            .is_none_or(|insight| *insight == entry.insight_id)
        && filter.from.is_none_or(|from| entry.updated_at >= from)
        && filter.to.is_none_or(|to| entry.updated_at < to)
        && filter
            .rating
            .is_none_or(|rating| entry.rating == Some(rating))
        && filter
            .has_comment
            .is_none_or(|has| entry.comment.is_some() == has)
}

/// What a search must find, in order.
pub fn expected(filter: &Filter, entries: &[Entry]) -> Vec<Entry> {
    let mut found: Vec<Entry> = entries
        .iter()
        .filter(|entry| matches(filter, entry))
        .cloned()
        .collect();
    found.sort_by_key(|entry| std::cmp::Reverse((entry.updated_at, entry.id)));
    found
}

/// Every combination of conditions: user, insight, from, to and rating given or not, three ways to ask for a flag and three
/// for a comment. The values are those of an entry, or others.
pub fn combinations(random: &mut StdRng, entries: &[Entry]) -> Vec<Filter> {
    let mut filters = Vec::new();
    for mask in 0..32_u32 {
        for flag in 0..3 {
            for has_comment in [None, Some(true), Some(false)] {
                let like = &entries[random.random_range(0..entries.len())];
                let given = |bit: u32| mask & (1 << bit) != 0;
                let kind = like
                    .flag_type
                    .unwrap_or(FlagType::ALL[random.random_range(0..5)]);
                filters.push(Filter {
                    user_id: given(0).then(|| like.user_id.clone()),
                    insight_id: given(1).then(|| like.insight_id.clone()),
                    from: given(2).then(|| at(random.random_range(0..80))),
                    to: given(3).then(|| at(random.random_range(60..130))),
                    rating: given(4).then(|| like.rating.unwrap_or(3)),
                    flag: [None, Some(FlagFilter::Any), Some(FlagFilter::Of(kind))][flag],
                    has_comment,
                });
            }
        }
    }
    filters
}

#[tokio::test]
async fn every_combination_of_conditions_finds_what_it_should_by_offset_and_by_cursor() {
    let (db, store) = store().await;
    let mut random = random();
    let written = entries(&mut random, 600);
    insert(&db.admin().await, &written).await;
    let mut found_any = 0;
    for filter in combinations(&mut random, &written) {
        let expected = expected(&filter, &written);
        let total = i64::try_from(expected.len()).unwrap();
        found_any += u32::from(total > 0);
        let feedback = store.feedback();
        let by_cursor = all_by_cursor(&mut random, async |page| {
            let found = feedback.search(&filter, &page).await?;
            assert_eq!(found.total, total, "{filter:?}");
            Ok((found.entries, found.next))
        });
        assert_eq!(by_cursor.await, expected, "{filter:?}");

        let limit = random.random_range(1..=100);
        let offset = random.random_range(0..=total + 1);
        let page = Page {
            limit,
            start: Start::Offset(offset),
        };
        let found = store.feedback().search(&filter, &page).await.unwrap();
        let (from, limit) = (usize::try_from(offset), usize::try_from(limit));
        let rest = expected.iter().skip(from.unwrap());
        let expected: Vec<_> = rest.take(limit.unwrap()).cloned().collect();
        assert_eq!(
            (found.entries, found.total),
            (expected, total),
            "{filter:?}"
        );
        assert_eq!(found.next.is_some(), page.limit + offset < total);
    }
    assert!(
        found_any > 100,
        "{found_any} of 288 combinations found anything"
    );
}

#[tokio::test]
async fn what_is_not_touched_comes_exactly_once_while_others_write() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let mut random = random();
    let written = entries(&mut random, 500);
    insert(&admin, &written).await;
    // Every third entry changes or goes while the list is read.
    let restless: Vec<Uuid> = written.iter().step_by(3).map(|entry| entry.id).collect();
    let writer = tokio::spawn(async move {
        for round in 0.. {
            let id = restless[round % restless.len()];
            let sql = match round % 3 {
                0 => "delete from insight_feedback where id = $1",
                _ => {
                    "update insight_feedback set rating = coalesce(rating, 0) % 5 + 1 where id = $1"
                }
            };
            admin.execute(sql, &[&id]).await.unwrap();
            admin
                .execute(
                    "insert into insight_feedback (insight_id, user_id, rating) values ('insight-0000', $1, 5)",
                    &[&format!("new-{round}")],
                )
                .await
                .unwrap();
        }
    });
    let quiet: Vec<&Entry> = written
        .iter()
        .enumerate()
        .filter(|(index, _)| index % 3 != 0)
        .map(|(_, entry)| entry)
        .collect();
    let filters = [
        Filter::default(),
        Filter {
            insight_id: Some("insight-0000".to_owned()),
            ..Filter::default()
        },
        Filter {
            rating: Some(5),
            ..Filter::default()
        },
    ];
    for filter in filters {
        let mut seen: BTreeMap<Uuid, u32> = BTreeMap::new();
        let mut page = Page::first(7);
        loop {
            let found = store.feedback().search(&filter, &page).await.unwrap();
            for entry in &found.entries {
                *seen.entry(entry.id).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            let Some(cursor) = found.next else { break };
            page.start = Start::After(cursor);
        }
        assert!(seen.values().all(|times| *times == 1), "{filter:?}");
        for entry in quiet.iter().filter(|entry| matches(&filter, entry)) {
            assert_eq!(seen.get(&entry.id), Some(&1), "{entry:?}");
        }
    }
    assert!(!writer.is_finished());
    writer.abort();
}

#[tokio::test]
async fn times_too_far_away_to_store_are_no_bounds() {
    use chrono::{DateTime, Utc};
    let (db, store) = store().await;
    let written = entries(&mut random(), 50);
    insert(&db.admin().await, &written).await;
    let filter = Filter {
        from: Some(DateTime::<Utc>::MIN_UTC),
        to: Some(DateTime::<Utc>::MAX_UTC),
        ..Filter::default()
    };
    let found = store.feedback().search(&filter, &Page::first(100)).await;
    assert_eq!(found.unwrap().total, 50);
    let filter = Filter {
        from: Some(DateTime::<Utc>::MAX_UTC),
        ..filter
    };
    let found = store.feedback().search(&filter, &Page::first(100)).await;
    assert_eq!(found.unwrap().total, 0);
}
