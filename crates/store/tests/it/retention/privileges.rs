//! Who may take what away: nobody but retention's functions, and these only what was archived.

use serde_json::json;
use tokio_postgres::{Client, error::SqlState};
use utxoiq_store::{cold::Dataset, db::roles};
use uuid::Uuid;

use super::{House, after, day, start};

/// Tables, and one column of each.
const TABLES: [(&str, &str); 9] = [
    ("archives", "state"),
    ("system_metrics", "value"),
    ("system_metrics_20260101", "value"),
    ("insight_feedback", "comment"),
    ("feedback_history", "comment"),
    ("backfill_jobs", "status"),
    ("legal_holds", "reason"),
    ("audit_log", "details"),
    ("audit_head", "hash"),
];

/// What the serving role needs for its work: it changes feedback and jobs.
const SERVING: [&str; 2] = ["update insight_feedback", "update backfill_jobs"];

fn is_refused(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

#[tokio::test]
async fn no_role_deletes_changes_or_drops_what_is_kept() {
    let house = House::on("2026-01-01").await;
    house.samples("a", &[start(day("2026-01-01"))]).await;
    for role in [roles::APP, roles::RETENTION, roles::BACKUP] {
        let client = house.db.client(role).await;
        let mut statements = vec![
            "alter table system_metrics detach partition system_metrics_20260101".to_owned(),
            "alter table system_metrics disable trigger all".to_owned(),
            "alter function archive_drop_day reset all".to_owned(),
            "create table public.mine ()".to_owned(),
            "insert into archives select * from archives".to_owned(),
            "insert into audit_log select * from audit_log".to_owned(),
            "set role utxoiq_owner".to_owned(),
            "set session_replication_role = replica".to_owned(),
        ];
        for (table, column) in TABLES {
            for sql in [
                format!("delete from {table}"),
                format!("truncate {table}"),
                format!("drop table {table}"),
                format!("update {table} set {column} = {column}"),
            ] {
                let is_its_work =
                    role == roles::APP && SERVING.iter().any(|serving| sql.starts_with(serving));
                if !is_its_work {
                    statements.push(sql);
                }
            }
        }
        for sql in statements {
            let Err(error) = client
                .batch_execute(&format!("begin; {sql}; rollback"))
                .await
            else {
                panic!("{role} may {sql}");
            };
            assert!(is_refused(&error), "{role}: {sql}: {error:?}");
            client.batch_execute("rollback").await.unwrap();
        }
    }
}

/// What each role may call of the functions that move, delete or keep.
#[tokio::test]
async fn only_the_steps_of_retention_may_be_called_and_by_its_role_alone() {
    let house = House::on("2026-01-01").await;
    let sql = "select proname::text from pg_proc where pronamespace = 'public'::regnamespace
               and proname ~ '^(archive|retention|feedback_(begin|erase|finish))_' and has_function_privilege($1, oid, 'execute') order by 1";
    for role in [roles::APP, roles::BACKUP] {
        let rows = house.admin.query(sql, &[&role]).await.unwrap();
        let may: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(may.is_empty(), "{role} may call {may:?}");
    }
    let rows = house.admin.query(sql, &[&roles::RETENTION]).await.unwrap();
    let may: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for inner in [
        "archive_keys",
        "archive_digest_rows",
        "archive_in_state",
        "archive_check_run",
        "archive_audit",
        "archive_retire_feedback",
        "archive_end_restored",
        "archive_day_obstacle",
    ] {
        assert!(!may.iter().any(|name| name == inner), "{inner}");
    }
    assert!(may.contains(&"archive_drop_day".to_owned()), "{may:?}");
}

/// Somebody who has the password of the role that archives.
struct Thief {
    client: Client,
}

impl Thief {
    async fn begin(
        &self,
        dataset: &str,
        of: &str,
        last: Option<&str>,
        key: Option<String>,
    ) -> (Uuid, String, Result<(), String>) {
        let id = Uuid::new_v4();
        let key =
            key.unwrap_or_else(|| format!("{dataset}/day={of}/part-0000-{}.parquet", id.simple()));
        let last = last.map_or("null".to_owned(), |last| format!("'{last}'"));
        let sql = format!(
            "select archive_begin((select max(id) from retention_runs), '{id}', '{dataset}', '{of}', '{key}', null, {last},
                                  (select verified_at from metric_days where day = '{of}' and '{dataset}' = 'metrics'), null, '2026-06-01')"
        );
        (id, key, self.call(&sql).await)
    }

    /// Says that an object was read back that nobody wrote.
    async fn prove(
        &self,
        (id, key): (Uuid, &str),
        rows: i64,
        digest: &str,
        lie: Option<(&str, &str)>,
    ) -> Result<(), String> {
        let mut parts = key.split(['/', '=']);
        let (dataset, _, of) = (parts.next().unwrap(), parts.next(), parts.next().unwrap());
        let mut manifest = json!({
            "archive_id": id, "object": key, "dataset": dataset, "day": of, "rows": rows, "bytes": 1,
            "sha256": "00".repeat(32), "content_sha256": digest,
        });
        if let Some((field, value)) = lie {
            manifest[field] = json!(value);
        }
        self.call(&format!(
            "select archive_prove((select max(id) from retention_runs), '{id}', {rows}, 1, decode(repeat('00', 32), 'hex'), '\\x{digest}', '{manifest}', '2026-06-01', 'thief')"
        ))
        .await
    }

    async fn call(&self, sql: &str) -> Result<(), String> {
        let called = self.client.batch_execute(sql).await;
        called.map_err(|error| {
            error
                .code()
                .map_or_else(String::new, |code| code.code().to_owned())
        })
    }

    async fn step(&self, function: &str, id: Uuid) -> Result<(), String> {
        self.call(&format!(
            "select {function}((select max(id) from retention_runs), '{id}', '2026-06-01', 'thief')"
        ))
        .await
    }
}

const CHANGED: &str = "UT012";
const STATE: &str = "UT011";

#[tokio::test]
#[allow(
    clippy::too_many_lines,
    reason = "one attempt after the other, on what the one before left"
)]
async fn a_forged_proof_deletes_nothing_and_a_true_one_is_in_the_log() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house.samples("a", &[start(first)]).await;
    house.feedback("insight", "user", 4, start(first)).await;
    house.roll_up_to(after(first, 4)).await;
    house
        .store
        .metrics()
        .verify(first, true, start(after(first, 5)))
        .await
        .unwrap();
    let thief = Thief {
        client: house.db.client(roles::RETENTION).await,
    };
    thief.call("insert into retention_runs (began_at, began_by, lease_expires_at) values ('2026-06-01', 'thief', '2026-07-01')").await.unwrap();
    let last = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    let wrong = "ab".repeat(32);
    // Not below another's key, not without its run, and not with a manifest of something else.
    let elsewhere = Some("feedback/day=2026-01-02/part-0000-00.parquet".to_owned());
    assert_eq!(
        thief
            .begin("feedback", "2026-01-01", Some(last), elsewhere)
            .await
            .2,
        Err(STATE.to_owned())
    );
    let (id, key, begun) = thief
        .begin("feedback", "2026-01-01", Some(last), None)
        .await;
    begun.unwrap();
    for lie in [
        ("object", "another"),
        ("sha256", "00"),
        ("content_sha256", "00"),
        ("dataset", "metrics"),
        ("rows", "1"),
    ] {
        assert_eq!(
            thief.prove((id, &key), 1, &wrong, Some(lie)).await,
            Err(STATE.to_owned()),
            "{lie:?}"
        );
    }
    assert_eq!(
        thief.step("archive_delete_rows", id).await,
        Err(STATE.to_owned())
    );
    thief.prove((id, &key), 1, &wrong, None).await.unwrap();
    assert_eq!(
        thief.step("archive_delete_rows", id).await,
        Err(CHANGED.to_owned())
    );
    assert_eq!(
        thief.step("archive_drop_day", id).await,
        Err(STATE.to_owned())
    );
    // What was recorded once stays.
    assert_eq!(
        thief.prove((id, &key), 1, &wrong, None).await,
        Err(STATE.to_owned())
    );
    assert_eq!(
        house.number("select count(*) from insight_feedback").await,
        1
    );

    // A day of samples: out of the table, and not away; the next run puts it back.
    let (id, key, begun) = thief.begin("metrics", "2026-01-01", None, None).await;
    begun.unwrap();
    assert_eq!(
        thief.step("archive_detach_day", id).await,
        Err(STATE.to_owned())
    );
    thief.prove((id, &key), 1, &wrong, None).await.unwrap();
    thief.step("archive_detach_day", id).await.unwrap();
    assert_eq!(
        thief.step("archive_drop_day", id).await,
        Err(CHANGED.to_owned())
    );
    assert_eq!(
        house
            .number("select count(*) from system_metrics_20260101")
            .await,
        1
    );
    thief
        .call("update retention_runs set ended_at = '2026-06-01', outcome = 'failed' where id = 1")
        .await
        .unwrap();
    // Its run is over: nothing more goes in its name.
    assert_eq!(
        thief.step("archive_drop_day", id).await,
        Err("UT010".to_owned())
    );
    let report = house.run_on(after(first, 91)).await;
    assert!(report.is_success(), "{report:?}");
    assert_eq!(report.archived_rows(Dataset::Metrics), 1);
    assert_eq!(
        house.number("select count(*) from insight_feedback").await,
        1
    );

    // Who reads the rows can compute their digest, and say that they were archived: that deletes, and is in the log for good.
    thief.call("insert into retention_runs (began_at, began_by, lease_expires_at) values ('2026-06-01', 'thief', '2026-07-01')").await.unwrap();
    let digest = "select encode(sha256(sha256(record_send(r))), 'hex') from (select * from archive_feedback) r";
    let digest: String = thief.client.query_one(digest, &[]).await.unwrap().get(0);
    let (id, key, begun) = thief
        .begin("feedback", "2026-01-01", Some(last), None)
        .await;
    begun.unwrap();
    thief.prove((id, &key), 1, &digest, None).await.unwrap();
    thief.step("archive_delete_rows", id).await.unwrap();
    assert_eq!(
        house.number("select count(*) from insight_feedback").await,
        0
    );
    let logged = "select count(*) from audit_log where database_role = 'utxoiq_retention' and actor = 'thief' and action in ('archive', 'delete')
                      and details::json ->> 'object' = (select object_key from archives where state = 'archived' and dataset = 'feedback')";
    assert_eq!(house.number(logged).await, 2);
    house.assert_chain().await;
}

/// The rows of an archive as JSON, as a function of the database wants them.
const GIVEN: &str = "(select jsonb_agg(to_jsonb(v)) from archive_feedback v)";

#[tokio::test]
async fn an_archive_is_replaced_only_by_what_is_left_of_its_own_rows_and_expires_only_with_them() {
    let house = House::on("2023-01-10").await;
    let first = day("2023-01-10");
    for user in ["ann", "bob", "cleo"] {
        house.feedback("insight", user, 3, start(first)).await;
    }
    let rows: serde_json::Value = house
        .admin
        .query_one(&format!("select {GIVEN}"), &[])
        .await
        .unwrap()
        .get(0);
    assert!(house.run_on(day("2025-01-11")).await.is_success());
    let held = utxoiq_store::retention::Held::User {
        user_id: "bob".to_owned(),
    };
    let retention = house.store.retention().unwrap();
    let now = start(day("2025-01-12"));
    retention
        .place_hold(held, "case", None, now, super::ACTOR)
        .await
        .unwrap();
    let role = house.db.client(roles::RETENTION).await;
    let old: uuid::Uuid = house
        .admin
        .query_one(
            "select id from archives where dataset = 'feedback' and state = 'archived'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let invented = serde_json::json!([{ "user_id": "somebody", "insight_id": "x" }]);
    let refused = async |sql: &str, params: &[&(dyn tokio_postgres::types::ToSql + Sync)]| {
        let error = role.query(sql, params).await.unwrap_err();
        error.code().unwrap().code().to_owned()
    };
    role.batch_execute(
        "insert into retention_runs (began_at, began_by, lease_expires_at) values ('2025-01-12', 'test', '2099-01-01')",
    )
    .await
    .unwrap();
    // Its rows are named wrongly, or rightly, and one is held.
    let expire = "select archive_expire((select max(id) from retention_runs), $1, $2, 'x', '2025-01-12', 'test')";
    assert_eq!(refused(expire, &[&old, &invented]).await, "UT013");
    assert_eq!(refused(expire, &[&old, &rows]).await, "UT013");
    // A replacement of two invented rows, and nothing said to have left.
    let new = uuid::Uuid::from_u128(7);
    let key = format!("feedback/day=2023-01-10/part-0001-{}.parquet", new.simple());
    role.execute(
        "select archive_begin(null, $1, 'feedback', '2023-01-10', $2, null, null, null, $3, '2025-01-12')",
        &[&new, &key, &old],
    )
    .await
    .unwrap();
    let forged = serde_json::json!({
        "archive_id": new, "object": key, "dataset": "feedback", "day": "2023-01-10", "rows": 2, "bytes": 9,
        "sha256": "ab".repeat(32), "content_sha256": "cd".repeat(32),
    });
    role.execute(
        "select archive_prove(null, $1, 2, 9, decode(repeat('ab', 32), 'hex'), decode(repeat('cd', 32), 'hex'), $2, '2025-01-12', 'test')",
        &[&new, &forged.to_string()],
    )
    .await
    .unwrap();
    let replace = "select archive_replace($1, 'x', $2, $3, '2025-01-12', 'test')";
    for given in [&serde_json::json!([]), &invented, &rows] {
        for erased in [None, Some("ann")] {
            assert_eq!(refused(replace, &[&new, given, &erased]).await, "UT012");
        }
    }
    assert_eq!(
        house
            .number(
                "select count(*) from archives where state = 'archived' and dataset = 'feedback'"
            )
            .await,
        1
    );
}
