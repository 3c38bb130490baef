//! The roles: who may what, and that making them is repeatable, for a superuser and for an administrator who is none.

mod attack;
mod fort;
mod grants;

use tokio_postgres::{Client, error::SqlState};
use utxoiq_store::{
    Kind,
    clock::SystemClock,
    db::{migrate::Migrator, roles},
};
use utxoiq_store_testkit::{PgCluster, PgOptions};

use crate::support::{PASSWORD, TestDb, connect};

/// A cluster on which nobody has run `init`.
async fn fresh_cluster() -> PgCluster {
    PgCluster::start(PgOptions::default()).await
}

/// Everything that `init` decides, as text.
async fn made(client: &Client) -> Vec<String> {
    let sql = "
        select format('%s login %s create db %s create role %s super %s inherit %s', rolname, rolcanlogin, rolcreatedb,
                      rolcreaterole, rolsuper, rolinherit)
        from pg_roles where rolname like 'utxoiq%'
        union all
        select format('%s in %s', member::regrole, roleid::regrole) from pg_auth_members where member::regrole::text like 'utxoiq%'
        union all
        select format('%s on database to %s', privilege_type, grantee::regrole)
        from pg_database, aclexplode(datacl) where datname = current_database() and (grantee = 0 or grantee::regrole::text like 'utxoiq%')
        union all
        select format('%s on schema to %s', privilege_type, grantee::regrole)
        from pg_namespace, aclexplode(nspacl) where nspname = 'public' and (grantee = 0 or grantee::regrole::text like 'utxoiq%')
        order by 1";
    client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_makes_the_roles_many_at_once_in_many_databases_and_again() {
    let cluster = fresh_cluster().await;
    let admin = connect(&cluster.admin_url("postgres")).await;
    let databases = ["postgres", "one", "two"];
    for name in &databases[1..] {
        admin
            .batch_execute(&format!("create database {name}"))
            .await
            .unwrap();
    }
    for _ in 0..2 {
        let mut runs = Vec::new();
        for round in 0..12 {
            let url = cluster.admin_url(databases[round % databases.len()]);
            runs.push(tokio::spawn(async move { roles::init(&url).await }));
        }
        for run in runs {
            run.await.unwrap().unwrap();
        }
        let made = made(&admin).await;
        for line in [
            "utxoiq_owner login f create db f create role f super f inherit f",
            "utxoiq_audit login f create db f create role f super f inherit f",
            "utxoiq_migrator login t create db f create role f super f inherit f",
            "utxoiq_app login t create db f create role f super f inherit t",
            "utxoiq_drill login t create db t create role f super f inherit t",
            "utxoiq_migrator in utxoiq_owner",
            "utxoiq_drill in utxoiq_owner",
            "utxoiq_drill in utxoiq_audit",
            "utxoiq_owner in utxoiq_audit",
            "utxoiq_backup in pg_read_all_data",
            "CREATE on database to utxoiq_owner",
            "CONNECT on database to utxoiq_app",
            "CREATE on schema to utxoiq_owner",
            "CREATE on schema to utxoiq_audit",
            "USAGE on schema to utxoiq_retention",
        ] {
            assert!(
                made.iter().any(|made| made == line),
                "{line} is not in {made:#?}"
            );
        }
        assert_eq!(
            made.iter()
                .filter(|line| line.starts_with("CREATE on"))
                .count(),
            3,
            "{made:#?}"
        );
        assert_eq!(made.len(), 7 + 5 + 5 + 9, "{made:#?}");
    }
}

/// What Cloud SQL's `postgres` is: it may make roles and databases, and is no superuser.
async fn administrator(cluster: &PgCluster) -> String {
    let admin = connect(&cluster.admin_url("postgres")).await;
    let make = "create role cloud_admin login createrole createdb password 'cloud'";
    admin.batch_execute(make).await.unwrap();
    admin
        .batch_execute("create database app owner cloud_admin")
        .await
        .unwrap();
    cluster.url("cloud_admin", "cloud", "app")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_who_is_no_superuser_makes_the_roles_and_migrates() {
    let cluster = fresh_cluster().await;
    let url = administrator(&cluster).await;
    for _ in 0..2 {
        roles::init(&url).await.unwrap();
    }
    Migrator::embedded()
        .unwrap()
        .up(&url, &SystemClock)
        .await
        .unwrap();
    // The backup can read all tables, by the role made for that or by grants.
    let admin = connect(&url).await;
    admin
        .batch_execute("alter role utxoiq_backup password 'backup'")
        .await
        .unwrap();
    let backup = connect(&cluster.url("utxoiq_backup", "backup", "app")).await;
    let tables =
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'public'";
    for row in backup.query(tables, &[]).await.unwrap() {
        let sql = format!("select count(*) from {}", row.get::<_, &str>(0));
        backup.query(&sql, &[]).await.unwrap();
    }
    assert!(
        backup
            .execute("delete from schema_migrations", &[])
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_that_is_printed_is_the_sql_that_runs() {
    let cluster = fresh_cluster().await;
    let admin = connect(&cluster.admin_url("postgres")).await;
    admin
        .batch_execute("create database printed")
        .await
        .unwrap();
    let printed = connect(&cluster.admin_url("printed")).await;
    assert!(
        admin.batch_execute(&roles::sql("printed")).await.is_err(),
        "run in another database"
    );
    printed.batch_execute(&roles::sql("printed")).await.unwrap();
    let by_hand = made(&printed).await;
    roles::init(&cluster.admin_url("printed")).await.unwrap();
    assert_eq!(made(&printed).await, by_hand);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_roles_a_migrator_says_how_to_make_them() {
    let cluster = fresh_cluster().await;
    let migrator = Migrator::embedded().unwrap();
    let refused = migrator
        .up(&cluster.admin_url("postgres"), &SystemClock)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "roles_missing");
    assert!(
        refused
            .to_string()
            .contains("run `utxoiq-store init` first"),
        "{refused}"
    );
    roles::init(&cluster.admin_url("postgres")).await.unwrap();
    let admin = connect(&cluster.admin_url("postgres")).await;
    admin
        .batch_execute("alter role utxoiq_app password 'app'")
        .await
        .unwrap();
    let url = cluster.url("utxoiq_app", "app", "postgres");
    let refused = migrator.up(&url, &SystemClock).await.unwrap_err();
    assert!(
        refused.to_string().contains("may not become utxoiq_owner"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_grant_is_told_so() {
    let cluster = fresh_cluster().await;
    let admin = connect(&cluster.admin_url("postgres")).await;
    admin
        .batch_execute("create role helper login createrole createdb password 'helper'")
        .await
        .unwrap();
    let refused = roles::init(&cluster.url("helper", "helper", "postgres"))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (Kind::Conflict, "init_refused")
    );
    assert!(
        refused.to_string().contains("as the owner of the database"),
        "{refused}"
    );
    let made = made(&admin).await;
    assert!(
        made.iter().all(|line| line.ends_with(" to -")),
        "a refused init leaves nothing: {made:?}"
    );
}

async fn refused(client: &Client, sql: &str) -> bool {
    let outcome = client.batch_execute(sql).await;
    outcome.is_err_and(|error| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_its_work_and_no_more() {
    let db = TestDb::new().await;
    let refused_in = tokio_postgres::connect(&db.url_of(roles::DRILL), tokio_postgres::NoTls).await;
    assert!(
        refused_in.is_err_and(|error| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)),
        "the drill's role comes into the database that is served from"
    );
    db.let_in(roles::DRILL).await;
    for role in roles::LOGIN {
        let client = db.client(role).await;
        assert!(
            role == roles::DRILL || refused(&client, "create temp table stray (id int)").await,
            "{role}"
        );
        // The drill's role acts as the owners, so that it can restore what is theirs.
        assert!(
            role == roles::DRILL || refused(&client, "create table stray (id int)").await,
            "{role}"
        );
        assert!(refused(&client, "create role stray").await, "{role}");
        let owns = client.batch_execute("set role utxoiq_owner").await.is_ok();
        assert_eq!(
            owns,
            [roles::MIGRATOR, roles::DRILL].contains(&role),
            "{role}"
        );
        let owns = client.batch_execute("set role utxoiq_audit").await.is_ok();
        assert_eq!(
            owns,
            [roles::MIGRATOR, roles::DRILL].contains(&role),
            "{role}"
        );
    }
    let app = db.client(roles::APP).await;
    assert!(refused(&app, "drop table schema_migrations").await);
    assert!(
        refused(
            &app,
            "insert into schema_migrations select * from schema_migrations"
        )
        .await
    );
    let owner = tokio_postgres::connect(&db.url_of(roles::OWNER), tokio_postgres::NoTls).await;
    assert!(
        owner.is_err(),
        "nobody logs in as the owner ({PASSWORD} is no password of its)"
    );
    let scratch = format!("{}_scratch", db.name());
    let drill = db.client(roles::DRILL).await;
    drill
        .batch_execute(&format!("create database {scratch}"))
        .await
        .unwrap();
    drill
        .batch_execute(&format!("drop database {scratch}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn no_login_role_can_write_through_the_triggers_functions() {
    let db = TestDb::new().await;
    let admin = db.admin().await;
    let functions = admin
        .query(
            "select oid::regproc::text from pg_proc where prorettype = 'trigger'::regtype
             and pronamespace = 'public'::regnamespace order by 1",
            &[],
        )
        .await
        .unwrap();
    assert!(functions.len() >= 10);
    for role in roles::LOGIN {
        if role == roles::MIGRATOR || role == roles::DRILL {
            continue; // They may become, or act as, the owner.
        }
        let client = db.client(role).await;
        // They may not even make a table of their own; here they may, to come to what follows.
        let let_make = format!("grant temporary on database {} to {role}", db.name());
        admin.batch_execute(&let_make).await.unwrap();
        client
            .batch_execute("create temp table forge (n int)")
            .await
            .unwrap();
        for function in &functions {
            let function: &str = function.get(0);
            let sql = format!(
                "create trigger t after truncate on forge for each statement execute function {function}()"
            );
            let error = client.batch_execute(&sql).await.unwrap_err();
            assert_eq!(
                error.code(),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{role} may use {function}"
            );
        }
    }
}
