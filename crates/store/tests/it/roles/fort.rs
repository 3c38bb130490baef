//! A cluster of its own with a database as an administrator makes it: `init`, all migrations, and rows in every table.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    clock::SystemClock,
    config::Loader,
    db::{migrate::Migrator, roles},
};
use utxoiq_store_testkit::{PgCluster, PgOptions};

use crate::support::{PASSWORD, connect};

const ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/rows");

/// What has ended, beside the rows of the migrations.
const ENDED: &str = "
    insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
        attempt_covered_blocks, claim_epoch, started_at, progressed_at, heard_at, ended_at, error_message)
    values ('0198c0de-0000-7000-8000-0000000000e1', 'blocks', 1, 9, 'completed', '{[1,10)}', 1, '2026-01-01', 0, 1, '2026-01-01',
            '2026-01-02', '2026-01-02', '2026-01-02', null),
           ('0198c0de-0000-7000-8000-0000000000e2', 'blocks', 11, 19, 'failed', '{[11,12)}', 1, '2026-01-01', 0, 1, '2026-01-01',
            '2026-01-02', '2026-01-02', '2026-01-02', 'lost');
    insert into backups (id, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes, row_count,
                         table_count, sha256, manifest_sha256, schema_version, stored_at, verified_at, ended_at)
    values ('00000000-0000-7000-8000-0000000000e3', '2026-01-01', 'test', '2026-01-01', 'verified', 'backups/e3', 1000, 100, 10, 3,
            decode(repeat('ab', 32), 'hex'), decode(repeat('cd', 32), 'hex'), 12, '2026-01-01', '2026-01-01', '2026-01-01');
    insert into metric_days values ('2024-01-01', 'archived', '2024-01-01', null, '2024-01-03');
    insert into metric_rollups
    select 1, hours, '2024-01-01', 2, 91.75, 0, 45.5, '2024-01-01', 46.25, '2024-01-01', 46.25, '2024-01-01', 45.5, 46.25, 46.25, '\\x01'
    from unnest(array[1, 24, 168]) hours";

pub struct Fort {
    cluster: PgCluster,
    pub admin: Client,
}

impl Fort {
    pub async fn build() -> Self {
        let cluster = PgCluster::start(PgOptions::default()).await;
        let server = connect(&cluster.admin_url("postgres")).await;
        server.batch_execute("create database app").await.unwrap();
        let url = cluster.admin_url("app");
        roles::init(&url).await.unwrap();
        let migrator = Migrator::embedded().unwrap();
        migrator.up(&url, &SystemClock).await.unwrap();
        for role in roles::LOGIN {
            let set = format!("alter role {role} password '{PASSWORD}'");
            server.batch_execute(&set).await.unwrap();
        }
        let admin = connect(&url).await;
        for migration in migrator.migrations() {
            let path = Path::new(ROWS).join(format!("{:04}.sql", migration.number));
            if let Ok(rows) = fs::read_to_string(path) {
                admin.batch_execute(&rows).await.unwrap();
            }
        }
        admin.batch_execute(ENDED).await.unwrap();
        Self { cluster, admin }
    }

    pub fn url(&self, role: &str) -> String {
        self.cluster.url(role, PASSWORD, "app")
    }

    pub fn admin_url(&self) -> String {
        self.cluster.admin_url("app")
    }

    pub async fn client(&self, role: &str) -> Client {
        connect(&self.url(role)).await
    }

    /// An address of another database of the server.
    pub fn beside(&self, role: &str) -> String {
        self.cluster.url(role, PASSWORD, "postgres")
    }

    pub fn store(&self) -> Store {
        let vars = [
            ("DATABASE_URL", self.url(roles::APP)),
            ("DATABASE_ADMIN_URL", self.admin_url()),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value));
        let config = Loader::default().env(vars).unwrap().finish().unwrap();
        Store::with_clock(config, Arc::new(SystemClock)).unwrap()
    }

    /// The first column of what the administrator is answered.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.admin.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Every row of every table: by name, how many and their hash. Sequences give numbers out for good, whatever is rolled back.
    pub async fn content(&self) -> BTreeMap<String, String> {
        let tables = "select format('%I.%I', n.nspname, relname) from pg_class c join pg_namespace n on n.oid = relnamespace
                      where relkind = 'r' and nspname !~ '^pg_' and nspname <> 'information_schema'";
        let mut content = BTreeMap::new();
        for table in self.texts(tables).await {
            let sql = format!(
                "select count(*) || ' ' || coalesce(sum(hashtextextended(all_of_it::text, 0)), 0) from (select * from {table}) all_of_it"
            );
            let hash = self.texts(&sql).await.remove(0);
            content.insert(table, hash);
        }
        content
    }

    /// Every right, owner, trigger and function, as text.
    pub async fn rights(&self) -> Vec<String> {
        self.texts(
            "select format('%s %s %s', relname, relowner, relacl) from pg_class where relnamespace = 'public'::regnamespace
             union all select format('%s.%s %s', attrelid::regclass, attname, attacl) from pg_attribute where attacl is not null
             union all select format('%s %s %s %s %s', oid::regprocedure, proowner, proacl, prosrc, proconfig) from pg_proc
                       where pronamespace = 'public'::regnamespace
             union all select format('%s %s %s', tgrelid::regclass, tgname, tgenabled) from pg_trigger
             union all select format('%s %s %s', datname, datdba, datacl) from pg_database
             union all select format('%s %s %s', nspname, nspowner, nspacl) from pg_namespace where nspname !~ '^pg_'
             union all select format('%s %s %s', roleid, member, admin_option) from pg_auth_members
             union all select format('%s', to_json(r)) from pg_roles r
             order by 1",
        )
        .await
    }
}
