//! A database for each test.
//!
//! Migrating takes longer than most tests, so it is done once for each set of migrations and cluster: the result is
//! kept as a template, named by the migrations' hash, and each test gets a copy. Test processes run side by side; an
//! advisory lock lets one of them build the template, and its final name appears only when it is complete.

use std::{sync::Arc, time::Duration};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};
use url::Url;
use utxoiq_store::{
    Store,
    clock::{Clock, SystemClock},
    config::{Config, Loader},
    db::{
        migrate::{self, Migrator},
        roles,
    },
};
use utxoiq_store_testkit::urls::admin_url;
use uuid::Uuid;

/// The password that the login roles have in the test cluster.
pub const PASSWORD: &str = "only-for-tests";

/// The key of the lock under which templates are built; taken in the administration database.
const TEMPLATE_LOCK: i64 = 0x7574_786f_7465_7374;

/// The roles that connect to a database that is served from.
const ROLES_OF_A_SERVICE: [&str; 4] =
    [roles::MIGRATOR, roles::APP, roles::RETENTION, roles::BACKUP];

/// A database of a test's own, dropped with it.
pub struct TestDb {
    name: String,
}

impl TestDb {
    /// A database with all migrations applied.
    pub async fn new() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE
            .get_or_init(|| template(Some(Migrator::embedded().unwrap())))
            .await;
        Self::copy_of(template, &ROLES_OF_A_SERVICE).await
    }

    /// A database with roles and grants and without migrations, into which one may restore.
    pub async fn empty() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(|| template(None)).await;
        Self::copy_of(template, &roles::LOGIN).await
    }

    async fn copy_of(template: &str, may_connect: &[&str]) -> Self {
        let name = format!("utxoiq_test_{}", Uuid::new_v4().simple());
        let admin = connect(&admin_url()).await;
        let sql = format!("create database {name} template {template}");
        admin.batch_execute(&sql).await.unwrap();
        // A copy has the template's contents but not the rights on the database itself.
        let sql = format!(
            "revoke all on database {name} from public; grant create on database {name} to {};
             grant connect on database {name} to {}",
            roles::OWNER,
            may_connect.join(", ")
        );
        admin.batch_execute(&sql).await.unwrap();
        Self { name }
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address for the superuser.
    pub fn admin_url(&self) -> String {
        with_database(&admin_url(), &self.name)
    }

    /// Its address for the application's role.
    pub fn app_url(&self) -> String {
        self.url_of(roles::APP)
    }

    /// Its address for one of the login roles.
    pub fn url_of(&self, role: &str) -> String {
        let mut url = Url::parse(&self.admin_url()).unwrap();
        url.set_username(role).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.into()
    }

    /// A configuration that serves on it, as the application's role.
    pub fn settings(&self) -> Config {
        self.settings_with(&[])
    }

    /// The same with other values: `("UTXOIQ_STORE_DATABASE__POOL_MAX", "2")`.
    pub fn settings_with(&self, vars: &[(&str, &str)]) -> Config {
        let (url, admin_url) = (self.app_url(), self.admin_url());
        let own = [
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_ADMIN_URL", admin_url.as_str()),
            // Many tests share two cores: what is about time says so itself.
            (
                "UTXOIQ_STORE_DATABASE__CONNECT_TIMEOUT_MILLISECONDS",
                "10000",
            ),
            (
                "UTXOIQ_STORE_DATABASE__ACQUIRE_TIMEOUT_MILLISECONDS",
                "60000",
            ),
        ];
        let vars = own
            .iter()
            .chain(vars)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Loader::default().env(vars).unwrap().finish().unwrap()
    }

    /// The address for the drill's role, whose databases are others.
    pub fn drill_url(&self) -> String {
        with_database(&self.url_of(roles::DRILL), "postgres")
    }

    /// Lets a role connect, as the drill's before a restore.
    pub async fn let_in(&self, role: &str) {
        let sql = format!("grant connect on database {} to {role}", self.name);
        self.admin().await.batch_execute(&sql).await.unwrap();
    }

    /// A connection as the superuser.
    pub async fn admin(&self) -> Client {
        connect(&self.admin_url()).await
    }

    /// A connection as one of the login roles.
    pub async fn client(&self, role: &str) -> Client {
        connect(&self.url_of(role)).await
    }

    /// A store on it.
    pub async fn store(&self) -> Store {
        self.store_at(Arc::new(SystemClock)).await
    }

    /// A store on it with a clock of the test's.
    #[allow(
        clippy::unused_async,
        reason = "opening spawns onto the test's runtime"
    )]
    pub async fn store_at(&self, clock: Arc<dyn Clock>) -> Store {
        Store::with_clock(self.settings(), clock).unwrap()
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let sql = format!("drop database if exists {} with (force)", self.name);
        // A thread of its own: the test's runtime may be the one that is ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async {
                    let work = async {
                        let (client, connection) =
                            tokio_postgres::connect(&admin_url(), NoTls).await?;
                        tokio::spawn(connection);
                        client.batch_execute(&sql).await
                    };
                    let _ = tokio::time::timeout(Duration::from_secs(20), work).await;
                });
            }
        });
        let _ = dropping.join();
    }
}

/// A connection.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The same address with another database.
pub fn with_database(url: &str, database: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    url.set_path(database);
    url.into()
}

/// Makes the template if it is not there, and returns its name.
async fn template(migrator: Option<Migrator>) -> String {
    let migrations = migrator
        .as_ref()
        .map_or_else(String::new, Migrator::content_hash);
    let hash = migrate::checksum(&format!("{}{migrations}", roles::sql("")));
    let name = format!("utxoiq_template_{}", &hash[..16]);
    let admin = connect(&admin_url()).await;
    loop {
        let row = admin
            .query_one("select pg_try_advisory_lock($1)", &[&TEMPLATE_LOCK])
            .await
            .unwrap();
        if row.get(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let there = admin
        .query_opt("select from pg_database where datname = $1", &[&name])
        .await
        .unwrap();
    if there.is_none() {
        build_template(&admin, &name, migrator).await;
    }
    // The lock goes with the connection.
    name
}

async fn build_template(admin: &Client, name: &str, migrator: Option<Migrator>) {
    let building = format!("{name}_building");
    let drop = format!("drop database if exists {building} with (force)");
    admin.batch_execute(&drop).await.unwrap();
    let create = format!("create database {building}");
    admin.batch_execute(&create).await.unwrap();
    let url = with_database(&admin_url(), &building);
    roles::init(&url).await.unwrap();
    for role in roles::LOGIN {
        let set = format!("alter role {role} password '{PASSWORD}'");
        admin.batch_execute(&set).await.unwrap();
    }
    if let Some(migrator) = migrator {
        migrator.up(&url, &SystemClock).await.unwrap();
    }
    let close = format!("alter database {building} allow_connections false");
    admin.batch_execute(&close).await.unwrap();
    // A connection just closed may linger for a moment, and would keep the database from being renamed.
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1";
    admin.query(end, &[&building]).await.unwrap();
    let rename = format!("alter database {building} rename to {name}");
    admin.batch_execute(&rename).await.unwrap();
}
