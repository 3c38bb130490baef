//! The review queue.

use std::{cmp::Reverse, collections::BTreeMap};

use rand::RngExt as _;
use utxoiq_store::feedback::{Entry, FlagType, FlaggedFilter, Page};

use super::{all_by_cursor, at, entries, fold, insert, random, store};

#[tokio::test]
async fn the_review_queue_has_the_most_flagged_first_and_says_why() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let mut random = random();
    let mut written = entries(&mut random, 500);
    let later = written.split_off(300);
    insert(&admin, &written).await;
    fold(&admin).await;
    insert(&admin, &later).await;
    written.extend(later);

    for round in 0..32 {
        let given = |bit: u32| round & (1 << bit) != 0;
        let like = &written[random.random_range(0..written.len())];
        let filter = FlaggedFilter {
            flag_type: given(0).then(|| FlagType::ALL[random.random_range(0..5)]),
            insight_id: given(1).then(|| like.insight_id.clone()),
            from: given(2).then(|| at(random.random_range(0..80))),
            to: given(3).then(|| at(random.random_range(60..130))),
        };
        let mut flagged: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in written.iter().filter(|entry| matches(&filter, entry)) {
            flagged.entry(&entry.insight_id).or_default().push(entry);
        }
        let mut expected: Vec<(&str, Vec<&Entry>)> = flagged.into_iter().collect();
        for (_, entries) in &mut expected {
            entries.sort_by_key(|entry| Reverse((entry.flagged_at, entry.id)));
        }
        expected.sort_by_key(|(insight, entries)| {
            (Reverse((entries.len(), entries[0].flagged_at)), *insight)
        });
        let feedback = store.feedback();
        let found = all_by_cursor(&mut random, async |page| {
            let page = Page {
                limit: page.limit.min(9),
                ..page
            };
            let found = feedback.flagged(&filter, &page).await?;
            assert_eq!(found.total, i64::try_from(expected.len()).unwrap());
            Ok((found.insights, found.next))
        })
        .await;
        assert_eq!(found.len(), expected.len(), "{filter:?}");
        for (found, (insight, entries)) in found.iter().zip(&expected) {
            assert_eq!(found.insight_id, *insight, "{filter:?}");
            assert_eq!(found.total_flags, i64::try_from(entries.len()).unwrap());
            for (kind, count) in FlagType::ALL.iter().zip(found.flags) {
                let of_kind = entries.iter().filter(|e| e.flag_type == Some(*kind));
                assert_eq!(of_kind.count(), usize::try_from(count).unwrap());
            }
            assert_eq!(Some(found.last_flagged_at), entries[0].flagged_at);
            assert_eq!(
                Some(found.first_flagged_at),
                entries.last().unwrap().flagged_at
            );
            let reasons = entries.iter().filter_map(|entry| {
                let reason = entry.flag_reason.clone()?;
                Some((
                    entry.flag_type?,
                    reason,
                    entry.flagged_at?,
                    entry.user_id.clone(),
                ))
            });
            let told = found.latest_reasons.iter().cloned();
            let told = told.map(|r| (r.flag_type, r.reason, r.flagged_at, r.user_id));
            assert!(told.eq(reasons.take(5)), "{found:?}");
            let ratings = written.iter().filter(|entry| entry.insight_id == *insight);
            let ratings: Vec<i64> = ratings.filter_map(|e| e.rating).map(i64::from).collect();
            assert_eq!(found.total_ratings, i64::try_from(ratings.len()).unwrap());
            let average = ratings.iter().sum::<i64>() as f64 / ratings.len() as f64;
            let average = (!ratings.is_empty()).then_some(average);
            assert_eq!(found.average_rating, average);
        }
    }
}

fn matches(filter: &FlaggedFilter, entry: &Entry) -> bool {
    entry.flagged_at.is_some_and(|at| {
        filter.from.is_none_or(|from| at >= from) && filter.to.is_none_or(|to| at < to)
    }) && filter
        .flag_type
        .is_none_or(|kind| entry.flag_type == Some(kind))
        && filter
            .insight_id
            .as_ref()
            .is_none_or(|insight| *insight == entry.insight_id)
}
