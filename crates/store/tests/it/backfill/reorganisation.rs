//! A chain reorganisation rewinds the job, and nothing of the old chain comes back.

use utxoiq_store::backfill::{CheckpointOutcome, Status};

use super::{at, claimed, range, ranges, started, store};

#[tokio::test]
async fn another_hash_at_the_same_height_rewinds_to_the_last_checkpoint_that_may_hold() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 999).await;
    let claim = claimed(&store, job.id, "a", 400, at(0)).await;
    for chunk in 0..3 {
        let (first, last) = (chunk * 100, chunk * 100 + 99);
        let kept = backfill
            .checkpoint(claim.key(), last, &format!("old-{last}"), at(1))
            .await
            .unwrap();
        assert_eq!(kept, CheckpointOutcome::Kept);
        backfill
            .record(claim.key(), range(first, last), at(1))
            .await
            .unwrap();
    }
    let other = claimed(&store, job.id, "b", 100, at(1)).await;
    // The node has another block at 299: the fork lies above 199, if 199 still holds.
    let outcome = backfill
        .verify_checkpoint(job.id, 299, "new-299", at(2))
        .await
        .unwrap();
    let CheckpointOutcome::Rewound { from, verify } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (from, verify.map(|checkpoint| checkpoint.block)),
        (200, Some(199))
    );
    assert_eq!(
        ranges(&backfill.gaps(job.id, at(2)).await.unwrap()),
        [(200, 999)]
    );
    // Whoever had blocks of the old chain in hand records none of them.
    assert_eq!(
        backfill
            .record(claim.key(), range(300, 399), at(2))
            .await
            .unwrap_err()
            .code(),
        "stale_lease"
    );
    assert_eq!(
        backfill
            .record(other.key(), range(400, 499), at(2))
            .await
            .unwrap_err()
            .code(),
        "stale_lease"
    );
    // 199 holds; nothing more is taken back.
    assert_eq!(
        backfill
            .verify_checkpoint(job.id, 199, "old-199", at(2))
            .await
            .unwrap(),
        CheckpointOutcome::Kept
    );
    // Deeper still: 199 does not hold after all.
    let outcome = backfill
        .verify_checkpoint(job.id, 199, "new-199", at(3))
        .await
        .unwrap();
    assert!(
        matches!(outcome, CheckpointOutcome::Rewound { from: 100, .. }),
        "{outcome:?}"
    );
    let outcome = backfill
        .verify_checkpoint(job.id, 99, "new-99", at(3))
        .await
        .unwrap();
    assert_eq!(
        outcome,
        CheckpointOutcome::Rewound {
            from: 0,
            verify: None
        }
    );
    let job = backfill.get(job.id).await.unwrap().unwrap();
    assert_eq!(
        (job.status, job.covered_blocks, job.current_block),
        (Status::Running, 0, 0)
    );
    assert_eq!(
        backfill
            .verify_checkpoint(job.id, 99, "x", at(3))
            .await
            .unwrap_err()
            .code(),
        "no_checkpoint"
    );
}

#[tokio::test]
async fn a_rewind_keeps_claims_below_it_and_an_estimate_that_makes_sense() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 999).await;
    let low = claimed(&store, job.id, "a", 100, at(0)).await;
    let high = claimed(&store, job.id, "b", 100, at(0)).await;
    backfill
        .record(low.key(), range(0, 49), at(1))
        .await
        .unwrap();
    backfill
        .record(high.key(), range(100, 149), at(1))
        .await
        .unwrap();
    let rewound = backfill.rewind(job.id, 100).await.unwrap();
    assert_eq!(rewound.covered_blocks, 50);
    backfill
        .record(low.key(), range(50, 99), at(2))
        .await
        .unwrap();
    assert_eq!(
        backfill
            .record(high.key(), range(150, 199), at(2))
            .await
            .unwrap_err()
            .code(),
        "stale_lease"
    );
    assert_eq!(
        ranges(&backfill.gaps(job.id, at(2)).await.unwrap()),
        [(100, 999)]
    );
    for block in [-1, 1_000] {
        assert_eq!(
            backfill.rewind(job.id, block).await.unwrap_err().code(),
            "block_outside_job"
        );
    }
}

/// Folding and rewinding at the same time: see the module's timeline.
#[tokio::test]
async fn no_fold_brings_the_old_chain_back() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    for round in 0..utxoiq_store_testkit::urls::scale(40, 1_000) {
        let first = i64::try_from(round).unwrap() * 1_000;
        let job = started(&store, first, first + 999).await;
        let claim = claimed(&store, job.id, "a", 1_000, at(0)).await;
        let key = claim.key();
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let store = store.clone();
                let blocks = range(first + 500 + n * 10, first + 509 + n * 10);
                // Two seconds on, so that each write folds.
                tokio::spawn(
                    async move { store.backfill().record(key, blocks, at(2)).await.is_ok() },
                )
            })
            .collect();
        let rewound = backfill.rewind(job.id, first + 500).await.unwrap();
        assert_eq!(rewound.covered_blocks, 0);
        for writer in writers {
            writer.await.unwrap();
        }
        let now = backfill.get(job.id).await.unwrap().unwrap();
        assert_eq!(
            now.covered_blocks, 0,
            "blocks of the old chain are back in round {round}"
        );
        backfill.cancel(job.id, at(3)).await.unwrap();
    }
}
