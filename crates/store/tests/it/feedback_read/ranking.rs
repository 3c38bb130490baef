//! The ranking.

use std::collections::BTreeMap;

use rand::{RngExt as _, rngs::StdRng};
use tokio_postgres::Client;
use utxoiq_store::feedback::{Counts, Ranked, Ranking, bayesian_mean, lower_bound};

use super::{all_by_cursor, random, store};

type All = BTreeMap<String, Counts>;

/// Adds ratings to some insights, not folded.
async fn rate(admin: &Client, random: &mut StdRng, all: &mut All, insights: u32, writes: u32) {
    for _ in 0..writes {
        let insight = format!("insight-{:04}", random.random_range(0..insights));
        // Few different counts, so that scores are equal; sometimes a rating is taken back.
        let value = random.random_range(0..5);
        let counts = all.entry(insight.clone()).or_default();
        let taken_back = counts.ratings[value] > 0 && random.random_bool(0.3);
        let change = if taken_back { -1 } else { 1 };
        counts.ratings[value] += i64::from(change);
        let sql = format!(
            "insert into feedback_deltas values ($1, pg_current_xact_id(), {})",
            (0..11)
                .map(|v| if v == value {
                    change.to_string()
                } else {
                    "0".to_owned()
                })
                .collect::<Vec<_>>()
                .join(", ")
        );
        admin.execute(&sql, &[&insight]).await.unwrap();
    }
}

fn expected(all: &All, ranking: Ranking, min_ratings: i64) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = all
        .iter()
        .filter(|(_, counts)| counts.total_ratings() >= min_ratings.max(1))
        .map(|(insight, counts)| Ranked {
            insight_id: insight.clone(),
            total_ratings: counts.total_ratings(),
            average_rating: counts.average_rating(),
            bayesian_mean: bayesian_mean(3.0, 10.0, counts),
            lower_bound: lower_bound(counts),
        })
        .collect();
    ranked.sort_by(|a, b| {
        let by_score = b.score(ranking).total_cmp(&a.score(ranking));
        by_score.then_with(|| a.insight_id.cmp(&b.insight_id))
    });
    ranked
}

#[tokio::test]
async fn the_ranking_is_exact_whatever_is_folded() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let mut random = random();
    let mut all = All::new();
    let feedback = store.feedback();
    for round in 0..4 {
        rate(&admin, &mut random, &mut all, 150, 300).await;
        for ranking in Ranking::ALL {
            for min_ratings in [0, 1, 4] {
                let found = all_by_cursor(&mut random, async |page| {
                    let top = feedback.top(ranking, min_ratings, &page).await?;
                    Ok((top.insights, top.next))
                })
                .await;
                let expected = expected(&all, ranking, min_ratings);
                assert_eq!(found, expected, "{ranking} of {min_ratings}, round {round}");
            }
        }
        // The worst ones, and of a tie those that come first by their ids.
        for (min_ratings, limit) in [(0, 1), (1, 7), (4, 100)] {
            let found = feedback.bottom(min_ratings, limit).await.unwrap();
            let mut worst = expected(&all, Ranking::BayesianMean, min_ratings);
            worst.sort_by(|a, b| {
                let by_score = a.bayesian_mean.total_cmp(&b.bayesian_mean);
                by_score.then_with(|| a.insight_id.cmp(&b.insight_id))
            });
            worst.truncate(usize::try_from(limit).unwrap());
            assert_eq!(
                found, worst,
                "the worst {limit} of {min_ratings}, round {round}"
            );
        }
        // After an even round nothing is open, after an odd one there are both.
        if round % 2 == 0 {
            super::fold(&admin).await;
        }
    }
}
