//! A new secret for a token.

use super::*;

/// Whom a secret lets in, asked without a cache.
async fn works(app: &Pool, secret: &Secret, now: DateTime<Utc>) -> bool {
    let caller = Tokens::new(app).authenticate(secret.expose(), now).await;
    caller.unwrap().is_some()
}

fn hours(hours: i64) -> TimeDelta {
    TimeDelta::hours(hours)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_work_until_the_overlap_ends_and_the_token_stays_the_same() {
    let db = TestDb::new().await;
    let (app, admin) = (pool(&db.app_url()), pool(&db.url_of(roles::MIGRATOR)));
    let (token, old) = made(&db, reader("ingest")).await;
    let end = noon() + hours(24);
    let tokens = Tokens::new(&admin);
    let (rotated, new) = tokens
        .rotate("ingest", hours(24), false, noon())
        .await
        .unwrap();
    assert_eq!(
        (rotated.id, rotated.rotated_at, rotated.previous_until),
        (token.id, Some(noon()), Some(end))
    );
    let shortly_before = end - TimeDelta::microseconds(1);
    for (secret, at, expected) in [
        (&old, noon(), true),
        (&new, noon(), true),
        (&old, shortly_before, true),
        (&old, end, false),
        (&new, end, true),
    ] {
        assert_eq!(works(&app, secret, at).await, expected, "{at}");
    }
    let caller = Tokens::new(&app)
        .authenticate(old.expose(), noon())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (caller.key(), caller.expires_at),
        (token.id.to_string(), Some(end))
    );
    let mut wrong = old.expose().to_owned();
    let last = if wrong.ends_with('A') { "E" } else { "A" };
    wrong.replace_range(wrong.len() - 1.., last);
    assert!(!works(&app, &Secret::new(wrong), noon()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_refuses_the_old_secret_at_the_end_of_its_overlap() {
    let db = TestDb::new().await;
    let (app, admin) = (pool(&db.app_url()), pool(&db.admin_url()));
    let (_, old) = made(&db, reader("ingest")).await;
    let tokens = Tokens::new(&admin);
    tokens
        .rotate("ingest", hours(1), false, noon())
        .await
        .unwrap();
    let cache = TokenCache::new(app, Duration::from_hours(1));
    let end = noon() + hours(1);
    let before = cache.authenticate(old.expose(), noon()).await.unwrap();
    assert!(before.is_some());
    assert_eq!(cache.authenticate(old.expose(), end).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_during_an_overlap_is_refused_unless_it_is_forced() {
    let db = TestDb::new().await;
    let (app, admin) = (pool(&db.app_url()), pool(&db.admin_url()));
    let (token, first) = made(&db, reader("ingest")).await;
    let tokens = Tokens::new(&admin);
    let id = token.id.to_string();
    let (_, second) = tokens.rotate(&id, hours(24), false, noon()).await.unwrap();
    let refused = tokens
        .rotate(&id, hours(24), false, noon() + hours(23))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (Kind::Conflict, "rotation_under_way")
    );
    let (_, third) = tokens.rotate(&id, hours(24), true, noon()).await.unwrap();
    let mut still = Vec::new();
    for secret in [&first, &second, &third] {
        still.push(works(&app, secret, noon()).await);
    }
    assert_eq!(still, [false, true, true]);
    // An overlap of nothing ends the present one at once.
    let later = noon() + hours(24);
    let (_, fourth) = tokens.rotate(&id, hours(0), false, later).await.unwrap();
    assert!(!works(&app, &third, later).await && works(&app, &fourth, later).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_longer_works_is_not_rotated_and_its_old_secret_ends_with_it() {
    let db = TestDb::new().await;
    let (app, admin) = (pool(&db.app_url()), pool(&db.admin_url()));
    let tokens = Tokens::new(&admin);
    let end = noon() + hours(2);
    let ending = NewToken {
        expires_at: Some(end),
        ..reader("ending")
    };
    let (token, old) = made(&db, ending).await;
    let id = token.id.to_string();
    tokens.rotate(&id, hours(24), false, noon()).await.unwrap();
    assert!(!works(&app, &old, end).await);
    let revoked = made(&db, reader("revoked")).await.0.id.to_string();
    tokens.revoke(&revoked, noon()).await.unwrap();
    for (id, code) in [
        (id.as_str(), "token_not_live"),
        (&revoked, "token_not_live"),
        ("revoked", "token_not_found"),
        ("a\0", "token_not_found"),
    ] {
        let refused = tokens.rotate(id, hours(1), true, end).await.unwrap_err();
        assert_eq!(refused.code(), code, "{id}");
    }
    for wrong in [hours(-1), TimeDelta::days(91)] {
        let refused = tokens.rotate(&id, wrong, true, noon()).await.unwrap_err();
        assert_eq!(refused.field_errors()[0].field, "overlap");
    }
    let refused = Tokens::new(&app)
        .rotate(&id, hours(1), true, noon())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "not_permitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_the_old_secret_is_noted_and_shown() {
    let db = TestDb::new().await;
    let (app, admin) = (pool(&db.app_url()), pool(&db.admin_url()));
    let tokens = Tokens::new(&admin);
    let (_, old) = made(&db, reader("ingest")).await;
    let (_, new) = tokens
        .rotate("ingest", hours(24), false, noon())
        .await
        .unwrap();
    let used = async |expected: (Option<DateTime<Utc>>, Option<DateTime<Utc>>)| {
        for _ in 0..200 {
            let token = tokens.list().await.unwrap().remove(0);
            if (token.last_used_at, token.previous_used_at) == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} and not {expected:?}", tokens.list().await);
    };
    assert!(works(&app, &new, noon()).await);
    used((Some(noon()), None)).await;
    let later = noon() + hours(1);
    assert!(works(&app, &old, later).await);
    used((Some(later), Some(later))).await;
    // What replaces it has not been used yet.
    tokens
        .rotate("ingest", hours(24), true, later)
        .await
        .unwrap();
    used((Some(later), None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_keeps_the_tier_it_was_made_with() {
    let db = TestDb::new().await;
    let (app, admin) = (pool(&db.app_url()), pool(&db.admin_url()));
    let tiered = |tier: &str| NewToken {
        rate_tier: Some(tier.to_owned()),
        ..reader("ingest")
    };
    let (_, secret) = made(&db, tiered("pro-2")).await;
    let caller = Tokens::new(&app)
        .authenticate(secret.expose(), noon())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(caller.rate_tier.as_deref(), Some("pro-2"));
    for wrong in ["", "Pro", "a b", "a\0", &"x".repeat(51)] {
        let refused = Tokens::new(&admin).create(tiered(wrong), noon()).await;
        assert_eq!(refused.unwrap_err().field_errors()[0].field, "tier");
    }
}
