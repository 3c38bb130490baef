//! Service tokens: who may make one, who gets in, and what is kept.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use utxoiq_store::{
    Kind,
    config::Secret,
    db::{Pool, roles},
    token::{Identity, NewToken, Scope, Token, TokenCache, Tokens},
};

use crate::support::TestDb;

mod cache;
mod last_use;
mod rotation;

fn noon() -> DateTime<Utc> {
    "2025-03-01T12:00:00Z".parse().unwrap()
}

fn reader(name: &str) -> NewToken {
    NewToken {
        name: name.to_owned(),
        subject: None,
        scopes: BTreeSet::from([Scope::BackfillRead, Scope::StatsRead]),
        rate_tier: None,
        expires_at: None,
        created_by: "a test".to_owned(),
    }
}

/// A pool as one of the login roles, or as the superuser.
fn pool(url: &str) -> Pool {
    let vars = [
        ("DATABASE_URL", url),
        ("UTXOIQ_STORE_DATABASE__POOL_MIN", "1"),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = utxoiq_store::config::Loader::default()
        .env(vars)
        .unwrap()
        .finish()
        .unwrap();
    Pool::open(&config.database).unwrap()
}

/// Makes a token as an administrator.
async fn made(db: &TestDb, new: NewToken) -> (Token, Secret) {
    Tokens::new(&pool(&db.admin_url()))
        .create(new, noon())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_its_holder_in_with_its_scopes_and_subject() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let (token, secret) = made(
        &db,
        NewToken {
            subject: Some("user-7".into()),
            ..reader("dashboard")
        },
    )
    .await;
    let caller = Tokens::new(&app)
        .authenticate(secret.expose(), noon())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(caller.key(), token.id.to_string());
    let name = "dashboard".to_owned();
    let identity = Identity::Token { id: token.id, name };
    assert_eq!(
        (caller.identity.clone(), caller.subject.as_str()),
        (identity, "user-7")
    );
    assert!(caller.has(Scope::StatsRead) && !caller.has(Scope::BackfillWrite));
    let (own, _) = made(&db, reader("ingest")).await;
    assert_eq!(own.subject, "ingest");
    let listed = Tokens::new(&app).list().await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|token| token.name.as_str())
            .collect::<Vec<_>>(),
        ["dashboard", "ingest"]
    );
    assert_eq!(listed[1], own);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_keeps_a_hash_and_nothing_of_the_secret() {
    let db = TestDb::new().await;
    let (_, secret) = made(&db, reader("a")).await;
    let text = secret.expose();
    assert!(text.starts_with("uqs_") && text.len() == 80, "{text}");
    let row = db
        .admin()
        .await
        .query_one("select t::text, secret_hash from service_tokens t", &[])
        .await
        .unwrap();
    let (shown, hash): (String, Vec<u8>) = (row.get(0), row.get(1));
    assert!(!shown.contains(&text[37..]));
    assert_eq!(hash.len(), 32);
    assert_ne!(
        hash,
        Sha256::digest(text.as_bytes()).to_vec(),
        "the hash covers the secret alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_with_anything_else() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let (_, right) = made(&db, reader("a")).await;
    let (_, other) = made(&db, reader("b")).await;
    let (right, other) = (right.expose(), other.expose());
    // One's id with the other's secret; an unknown id.
    let mixed = format!("{}{}", &right[..37], &other[37..]);
    let unknown = format!("uqs_{}{}", "0".repeat(32), &right[36..]);
    for wrong in [
        mixed.as_str(),
        &unknown,
        "",
        "uqs_",
        "\0",
        "Bearer x",
        &"x".repeat(1 << 20),
        "\u{1f511}\u{1f511}",
    ] {
        assert_eq!(
            Tokens::new(&app).authenticate(wrong, noon()).await.unwrap(),
            None
        );
    }
    assert!(
        Tokens::new(&app)
            .authenticate(right, noon())
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_never_reaches_the_database() {
    // Nothing listens there: whatever asks the database fails.
    let nowhere = pool("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1");
    let cache = TokenCache::new(nowhere.clone(), Duration::from_secs(1));
    let right_length = format!("uqs_{}_{}", "g".repeat(32), "A".repeat(43));
    for wrong in [
        "",
        "\0\0",
        &"u".repeat(1 << 20),
        "\u{fffd}",
        &right_length,
        &"\u{e9}".repeat(40),
    ] {
        assert_eq!(
            Tokens::new(&nowhere)
                .authenticate(wrong, noon())
                .await
                .unwrap(),
            None
        );
        assert_eq!(cache.authenticate(wrong, noon()).await.unwrap(), None);
    }
    assert_eq!(cache.len().await, 0);
    let formed = format!("uqs_{}_{}", "a".repeat(32), "A".repeat(43));
    let error = Tokens::new(&nowhere)
        .authenticate(&formed, noon())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let error = cache.authenticate(&formed, noon()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unavailable, "database_unavailable")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_works_until_its_time_and_gives_its_name_up() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let admin = pool(&db.admin_url());
    let end = noon() + TimeDelta::days(1);
    let (old, secret) = made(
        &db,
        NewToken {
            expires_at: Some(end),
            ..reader("a")
        },
    )
    .await;
    let almost = end - TimeDelta::microseconds(1);
    assert!(
        Tokens::new(&app)
            .authenticate(secret.expose(), almost)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        Tokens::new(&app)
            .authenticate(secret.expose(), end)
            .await
            .unwrap()
            .is_none()
    );
    let taken = Tokens::new(&admin)
        .create(reader("a"), almost)
        .await
        .unwrap_err();
    assert_eq!(
        (taken.kind(), taken.code()),
        (Kind::Conflict, "token_name_taken")
    );
    let (new, _) = Tokens::new(&admin).create(reader("a"), end).await.unwrap();
    assert_ne!(new.id, old.id);
    let past = NewToken {
        expires_at: Some(noon()),
        ..reader("b")
    };
    assert_eq!(
        Tokens::new(&admin)
            .create(past, noon())
            .await
            .unwrap_err()
            .field_errors()[0]
            .field,
        "expires_at"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_out_and_its_name_is_free() {
    let db = TestDb::new().await;
    let admin = pool(&db.admin_url());
    let tokens = Tokens::new(&admin);
    let (token, secret) = tokens.create(reader("a"), noon()).await.unwrap();
    let later = noon() + TimeDelta::hours(1);
    assert_eq!(
        tokens.revoke("a", later).await.unwrap().revoked_at,
        Some(later)
    );
    assert_eq!(
        tokens.authenticate(secret.expose(), later).await.unwrap(),
        None
    );
    // Again by id: the first time stays. By name there is none left.
    let again = tokens
        .revoke(&token.id.to_string(), later + TimeDelta::hours(1))
        .await
        .unwrap();
    assert_eq!(again.revoked_at, Some(later));
    for unknown in ["a", "nobody", "a\0", "00000000-0000-0000-0000-000000000000"] {
        let error = tokens.revoke(unknown, later).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::NotFound, "token_not_found")
        );
    }
    let (next, _) = tokens.create(reader("a"), later).await.unwrap();
    assert_eq!(
        tokens
            .revoke(&next.id.simple().to_string(), later)
            .await
            .unwrap()
            .id,
        next.id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_proper_name_or_scope_is_refused() {
    let db = TestDb::new().await;
    let admin = pool(&db.admin_url());
    let long = "x".repeat(101);
    for (field, new) in [
        (
            "name",
            NewToken {
                name: String::new(),
                ..reader("a")
            },
        ),
        (
            "name",
            NewToken {
                name: long.clone(),
                ..reader("a")
            },
        ),
        (
            "name",
            NewToken {
                name: "a\0".into(),
                ..reader("a")
            },
        ),
        (
            "name",
            NewToken {
                name: " a".into(),
                ..reader("a")
            },
        ),
        (
            "name",
            NewToken {
                name: "3f0c9a527d4e4b7a9a550d1c5f0e8a11".into(),
                ..reader("a")
            },
        ),
        (
            "subject",
            NewToken {
                subject: Some(long.clone()),
                ..reader("a")
            },
        ),
        (
            "created_by",
            NewToken {
                created_by: String::new(),
                ..reader("a")
            },
        ),
        (
            "scopes",
            NewToken {
                scopes: BTreeSet::new(),
                ..reader("a")
            },
        ),
    ] {
        let error = Tokens::new(&admin).create(new, noon()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.field_errors()[0].field, field);
    }
    assert_eq!(Tokens::new(&admin).list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_tokens_made_at_once_gets_the_name() {
    let db = TestDb::new().await;
    let admin = pool(&db.admin_url());
    let runs = (0..8).map(|_| {
        let admin = admin.clone();
        tokio::spawn(async move { Tokens::new(&admin).create(reader("a"), noon()).await })
    });
    let mut made = 0;
    for run in runs.collect::<Vec<_>>() {
        match run.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(error.code(), "token_name_taken"),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_serving_role_can_neither_make_nor_widen_nor_revive_a_token() {
    let db = TestDb::new().await;
    made(&db, reader("a")).await;
    let app = db.client(roles::APP).await;
    app.query("select * from service_tokens", &[])
        .await
        .unwrap();
    app.execute(
        "update service_tokens set last_used_at = '2025-03-01 12:00+00'",
        &[],
    )
    .await
    .unwrap();
    for sql in [
        "update service_tokens set scopes = array['admin']",
        "update service_tokens set revoked_at = null",
        "update service_tokens set expires_at = null",
        "update service_tokens set secret_hash = sha256('known')",
        "delete from service_tokens",
        "truncate service_tokens",
        "insert into service_tokens select gen_random_uuid(), 'b', 'b', secret_hash, scopes, created_at, 'b', null, null, null from service_tokens",
    ] {
        let error = app.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}");
    }
    let error = Tokens::new(&pool(&db.app_url()))
        .create(reader("b"), noon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_permitted");
    let app = pool(&db.app_url());
    let error = Tokens::new(&app).revoke("a", noon()).await.unwrap_err();
    assert_eq!(error.code(), "not_permitted");
    let retention = db.client(roles::RETENTION).await;
    assert!(
        retention
            .query("select * from service_tokens", &[])
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migrating_role_can_make_and_revoke_tokens() {
    let db = TestDb::new().await;
    let migrator = pool(&db.url_of(roles::MIGRATOR));
    let tokens = Tokens::new(&migrator);
    tokens.create(reader("a"), noon()).await.unwrap();
    tokens.revoke("a", noon()).await.unwrap();
    let client = db.client(roles::MIGRATOR).await;
    assert!(
        client
            .execute("update service_tokens set scopes = array['admin']", &[])
            .await
            .is_err()
    );
}
