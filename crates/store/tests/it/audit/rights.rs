//! Nobody writes the log but its function.

use tokio_postgres::{Client, error::SqlState};
use utxoiq_store::{
    clock::SystemClock,
    db::{migrate::Migrator, roles},
};
use utxoiq_store_testkit::{PgCluster, PgOptions};

use crate::support::{TestDb, connect};

/// What would change the log, its head, or its function.
const FORGERIES: &[&str] = &[
    "insert into audit_log select 2, at, actor, database_role, action, subject, details, previous_hash, hash from audit_log",
    "update audit_log set actor = 'somebody else'",
    "delete from audit_log",
    "truncate audit_log",
    "select from audit_log for update",
    "lock table audit_log in share row exclusive mode",
    "update audit_head set sequence = 0",
    "insert into audit_head values (false, 0, '')",
    "delete from audit_head",
    "truncate audit_head",
    "select from audit_head for update",
    "alter table audit_log disable trigger all",
    "alter table audit_log drop constraint audit_log_pkey",
    "alter table audit_head owner to current_user",
    "drop table audit_log",
    "create trigger t after insert on audit_log execute function audit_append()",
    "create rule r as on insert to audit_log do instead nothing",
    "create policy p on audit_log",
    "drop function audit_append",
    "alter function audit_append security invoker",
    "create or replace function audit_append(at timestamptz, actor text, action text, subject text, details text)
         returns bigint language sql as 'select 1::bigint'",
    "create or replace function audit_hash(previous_hash bytea, sequence bigint, at timestamptz, actor text, database_role text,
         action text, subject text, details text) returns bytea language sql as 'select null::bytea'",
    "grant utxoiq_audit to current_user",
];

async fn refused(client: &Client, sql: &str) {
    let error = client
        .batch_execute(&format!("begin; {sql}"))
        .await
        .expect_err(sql);
    client.batch_execute("rollback").await.unwrap();
    let state = error.code().unwrap();
    // Where a statement is wrong for another reason as well, that is as good.
    assert!(
        [
            &SqlState::INSUFFICIENT_PRIVILEGE,
            &SqlState::UNDEFINED_FUNCTION
        ]
        .contains(&state),
        "{sql}: {error:?}"
    );
}

async fn untouched(db: &TestDb) {
    let verification = db.store().await.audit().verify(&[]).await.unwrap();
    assert!(verification.is_clean(), "{verification:?}");
    assert_eq!(verification.entries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_login_role_can_write_the_log_or_change_its_function() {
    let db = TestDb::new().await;
    super::append(&db.store().await, 1).await;
    // The drill's role restores the log, too, and so acts as its owner: whoever has its password can do anything to it. The runbook
    // of backups says so, and where to keep it.
    for role in roles::LOGIN
        .into_iter()
        .filter(|role| *role != roles::DRILL)
    {
        let client = db.client(role).await;
        for sql in FORGERIES {
            refused(&client, sql).await;
        }
        client.query("select from audit_log", &[]).await.unwrap();
        if role == roles::BACKUP {
            refused(&client, "select audit_append(null, null, null, null, null)").await;
        }
    }
    untouched(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_owner_of_the_other_tables_nor_its_functions_can_write_the_log() {
    let db = TestDb::new().await;
    super::append(&db.store().await, 1).await;
    let owner = db.client(roles::MIGRATOR).await;
    owner.batch_execute("set role utxoiq_owner").await.unwrap();
    for sql in FORGERIES {
        refused(&owner, sql).await;
    }
    let forge = "create function forge(sql text) returns void language plpgsql security definer set search_path = public, pg_temp
                 as $$ begin execute sql; end $$;
                 grant execute on function forge to utxoiq_retention";
    owner.batch_execute(forge).await.unwrap();
    let retention = db.client(roles::RETENTION).await;
    let becomes = ["set role utxoiq_audit", "set local role utxoiq_audit"];
    for sql in FORGERIES.iter().chain(&becomes) {
        let call = retention.execute("select forge($1)", &[sql]).await;
        let state = call.expect_err(sql);
        let state = state.code().unwrap();
        assert!(
            [
                &SqlState::INSUFFICIENT_PRIVILEGE,
                &SqlState::UNDEFINED_FUNCTION
            ]
            .contains(&state),
            "{sql}: {state:?}"
        );
    }
    untouched(&db).await;
    // It may append, and is told apart by who is connected.
    let append = "select audit_append('2026-11-23 12:00:00+00', 'retention', 'drop', 'metrics 2026-01-01', '{}')";
    retention
        .execute("select forge($1)", &[&append])
        .await
        .unwrap();
    let role = retention
        .query_one(
            "select database_role from audit_log where sequence = 2",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(role.get::<_, &str>(0), roles::RETENTION);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_from_before_the_log_is_told_to_run_init_again() {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let url = cluster.admin_url("postgres");
    roles::init(&url).await.unwrap();
    let admin = connect(&url).await;
    let migrator = Migrator::embedded().unwrap();
    // The role without its right here, as where init was run again in another database only; then no role at all.
    for lacking in [
        "revoke create on schema public from utxoiq_audit",
        // From version 16 on that is said for each membership.
        "do $$ begin execute case when current_setting('server_version_num')::int >= 160000
             then 'grant utxoiq_audit to utxoiq_owner with inherit true' else 'alter role utxoiq_owner inherit' end; end $$",
        "drop owned by utxoiq_audit; drop role utxoiq_audit",
    ] {
        admin.batch_execute(lacking).await.unwrap();
        let error = migrator.up(&url, &SystemClock).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("run `utxoiq-store init` again, as an administrator"),
            "{lacking}: {error}"
        );
        if !lacking.starts_with("drop") {
            roles::init(&url).await.unwrap();
        }
    }
    roles::init(&url).await.unwrap();
    migrator.up(&url, &SystemClock).await.unwrap();
    assert!(migrator.status(&url).await.unwrap().is_clean());
}
