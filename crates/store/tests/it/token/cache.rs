//! The cache in front of the tokens.

use super::*;

/// How often the database was asked for a token since the statistics began.
fn lookups(app: &Pool) -> u64 {
    app.snapshot(noon()).acquired_total
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_two_connections_and_wait_for_each_other() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let cache = TokenCache::new(app.clone(), Duration::from_secs(1));
    let mut admin = db.admin().await;
    let held = admin.transaction().await.unwrap();
    held.batch_execute("lock table service_tokens in access exclusive mode")
        .await
        .unwrap();
    let strangers: Vec<_> = (0..30)
        .map(|number| {
            let (cache, guess) = (
                cache.clone(),
                format!("uqs_{number:032x}_{}", "A".repeat(43)),
            );
            tokio::spawn(async move { cache.authenticate(&guess, noon()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(app.snapshot(noon()).active, 2);
    held.rollback().await.unwrap();
    for stranger in strangers {
        assert_eq!(stranger.await.unwrap().unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_with_one_token_make_one_lookup() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let (_, secret) = made(&db, reader("a")).await;
    let cache = TokenCache::new(app.clone(), Duration::from_mins(1));
    let before = lookups(&app);
    let runs = (0..200).map(|_| {
        let (cache, secret) = (cache.clone(), secret.clone());
        tokio::spawn(async move { cache.authenticate(secret.expose(), noon()).await })
    });
    for run in runs.collect::<Vec<_>>() {
        assert!(run.await.unwrap().unwrap().is_some());
    }
    assert_eq!(lookups(&app) - before, 1);
    // A wrong one is remembered as well.
    let wrong = format!("{}{}", &secret.expose()[..37], "A".repeat(43));
    for _ in 0..5 {
        assert_eq!(cache.authenticate(&wrong, noon()).await.unwrap(), None);
    }
    assert_eq!(lookups(&app) - before, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_cache_a_revoked_token_ends_with_the_time_to_live_and_an_expired_one_at_once() {
    let db = TestDb::new().await;
    let admin = pool(&db.admin_url());
    let end = noon() + TimeDelta::days(1);
    let (_, secret) = made(
        &db,
        NewToken {
            expires_at: Some(end),
            ..reader("a")
        },
    )
    .await;
    let cache = TokenCache::new(admin.clone(), Duration::from_millis(300));
    assert!(
        cache
            .authenticate(secret.expose(), noon())
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        cache
            .authenticate(secret.expose(), end)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        cache
            .authenticate(secret.expose(), noon())
            .await
            .unwrap()
            .is_some()
    );
    Tokens::new(&admin).revoke("a", noon()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(320)).await;
    assert!(
        cache
            .authenticate(secret.expose(), noon())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_without_time_to_live_asks_every_time() {
    let db = TestDb::new().await;
    let admin = pool(&db.admin_url());
    let (_, secret) = made(&db, reader("a")).await;
    let cache = TokenCache::new(admin.clone(), Duration::ZERO);
    assert!(
        cache
            .authenticate(secret.expose(), noon())
            .await
            .unwrap()
            .is_some()
    );
    Tokens::new(&admin).revoke("a", noon()).await.unwrap();
    assert!(
        cache
            .authenticate(secret.expose(), noon())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_tokens_does_not_displace_the_right_one_nor_grow_without_bound() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let (_, secret) = made(&db, reader("a")).await;
    let cache = TokenCache::new(app.clone(), Duration::from_mins(10));
    for _ in 0..50 {
        assert!(
            cache
                .authenticate(secret.expose(), noon())
                .await
                .unwrap()
                .is_some()
        );
    }
    let workers = (0..8_u32).map(|worker| {
        let cache = cache.clone();
        tokio::spawn(async move {
            for number in 0..1_500_u32 {
                let wrong = format!("uqs_{:032x}_{}", worker * 10_000 + number, "A".repeat(43));
                assert_eq!(cache.authenticate(&wrong, noon()).await.unwrap(), None);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert!(cache.len().await <= 10_000, "{}", cache.len().await);
    let before = lookups(&app);
    assert!(
        cache
            .authenticate(secret.expose(), noon())
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(lookups(&app), before, "the right token was displaced");
}
