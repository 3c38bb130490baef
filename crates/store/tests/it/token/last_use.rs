//! When a token was last used.

use super::*;

async fn used_at(db: &TestDb) -> Option<DateTime<Utc>> {
    let row = db
        .admin()
        .await
        .query_one("select last_used_at from service_tokens", &[])
        .await
        .unwrap();
    row.get(0)
}

async fn used_at_becomes(db: &TestDb, expected: DateTime<Utc>) {
    for _ in 0..200 {
        if used_at(db).await == Some(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("last_used_at is {:?} and not {expected}", used_at(db).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_token_is_noted_once_a_minute() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let (_, secret) = made(&db, reader("a")).await;
    let tokens = Tokens::new(&app);
    tokens
        .authenticate(secret.expose(), noon())
        .await
        .unwrap()
        .unwrap();
    used_at_becomes(&db, noon()).await;
    let changes = |client: tokio_postgres::Client| async move {
        let row = client
            .query_one("select xmin::text from service_tokens", &[])
            .await
            .unwrap();
        row.get::<_, String>(0)
    };
    let before = changes(db.admin().await).await;
    for seconds in [0, 1, 59] {
        tokens
            .authenticate(secret.expose(), noon() + TimeDelta::seconds(seconds))
            .await
            .unwrap()
            .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        changes(db.admin().await).await,
        before,
        "the row was written within the minute"
    );
    let next = noon() + TimeDelta::minutes(1);
    tokens
        .authenticate(secret.expose(), next)
        .await
        .unwrap()
        .unwrap();
    used_at_becomes(&db, next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uses_at_once_are_noted_once() {
    let db = TestDb::new().await;
    let app = pool(&db.app_url());
    let (_, secret) = made(&db, reader("a")).await;
    let admin = db.admin().await;
    admin
        .batch_execute(
            "create table notes (at timestamptz);
             create function note() returns trigger language plpgsql security definer as $$
                 begin insert into notes values (new.last_used_at); return new; end $$;
             create trigger note after update on service_tokens for each row execute function note()",
        )
        .await
        .unwrap();
    let runs = (0..40).map(|_| {
        let (app, secret) = (app.clone(), secret.clone());
        tokio::spawn(async move {
            Tokens::new(&app)
                .authenticate(secret.expose(), noon())
                .await
        })
    });
    for run in runs.collect::<Vec<_>>() {
        assert!(run.await.unwrap().unwrap().is_some());
    }
    used_at_becomes(&db, noon()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let row = admin
        .query_one("select count(*) from notes", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}
