//! The whole service where nothing goes in the clear: a database and a Redis that speak TLS only, served TLS, and a backup.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use tempfile::TempDir;
use utxoiq_store::db::Dedicated;
use utxoiq_store_testkit::{
    Authority, PgCluster, PgOptions, Proc, RedisServer, TokenService, ports::free_port,
};

use crate::support::BINARY;

const PATIENCE: Duration = Duration::from_mins(1);
const PASSWORD: &str = "s3cret-of-a-role";
const TOKEN: &str = "t0ken-of-the-platform";

struct House {
    cluster: PgCluster,
    redis: RedisServer,
    folder: TempDir,
    envs: BTreeMap<String, String>,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl House {
    /// Servers with certificates of one authority, and the settings that verify them.
    async fn new(authority: &Authority) -> Self {
        let own = authority.issue(&["127.0.0.1"]);
        let cluster = PgCluster::start(PgOptions {
            certificate: Some(own.clone()),
            hba: Some("hostssl all all 127.0.0.1/32 scram-sha-256\n".to_owned()),
            ..PgOptions::default()
        });
        let (cluster, redis) = tokio::join!(cluster, RedisServer::start_tls(&own, None));
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("backups")).unwrap();
        let mut house = Self {
            cluster,
            redis,
            folder,
            envs: BTreeMap::new(),
        };
        let (ca, port) = (text(&authority.file()), free_port());
        let redis = &house.redis;
        let redis = format!(
            "rediss://default:{}@127.0.0.1:{}/0",
            redis.password(),
            redis.port()
        );
        let url = |role: &str| house.cluster.url(role, PASSWORD, "postgres");
        let backups = format!("file://{}", text(&house.folder.path().join("backups")));
        for (name, value) in [
            ("DATABASE_URL", url("utxoiq_app")),
            ("DATABASE_ADMIN_URL", house.cluster.admin_url("postgres")),
            ("REDIS_URL", redis),
            ("UTXOIQ_STORE_URL", format!("https://127.0.0.1:{port}")),
            ("UTXOIQ_STORE_CA_FILE", ca.clone()),
            ("UTXOIQ_STORE_SERVER__LISTEN", format!("127.0.0.1:{port}")),
            (
                "UTXOIQ_STORE_SERVER__TLS_CERTIFICATE_FILE",
                text(&own.certificate_file),
            ),
            ("UTXOIQ_STORE_SERVER__TLS_KEY_FILE", text(&own.key_file)),
            ("UTXOIQ_STORE_DATABASE__TLS", "verify-full".to_owned()),
            ("UTXOIQ_STORE_DATABASE__TLS_CA_FILE", ca.clone()),
            (
                "UTXOIQ_STORE_DATABASE__DRILL_URL",
                // It cannot connect to the database that is served from.
                house.cluster.url("utxoiq_drill", PASSWORD, "drills"),
            ),
            ("UTXOIQ_STORE_REDIS__TLS_CA_FILE", ca),
            ("UTXOIQ_STORE_BACKUP_STORE__URL", backups),
            ("UTXOIQ_STORE_LOG__LEVEL", "debug".to_owned()),
        ] {
            house.envs.insert(name.to_owned(), value);
        }
        house
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.envs.insert(name.to_owned(), value.into());
    }

    fn spawn(&self, args: &[&str]) -> Proc {
        Proc::spawn(BINARY, args, self.envs.clone())
    }

    /// What it printed, its logs apart.
    async fn run(&self, args: &[&str], code: i32) -> String {
        let output = tokio::process::Command::new(BINARY)
            .args(args)
            .envs(&self.envs)
            .output()
            .await
            .unwrap();
        let logs = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {logs}");
        for secret in [
            PASSWORD,
            TOKEN,
            self.redis.password(),
            self.cluster.password(),
        ] {
            assert!(!logs.contains(secret), "{logs}");
        }
        let out = String::from_utf8_lossy(&output.stdout);
        if code == 0 {
            out.into()
        } else {
            format!("{out}{logs}")
        }
    }

    /// The keys of backups, and their settings.
    async fn make_keys(&mut self) {
        for key in ["recovery", "drill"] {
            let file = text(&self.folder.path().join(key));
            let said = self.run(&["backup", "keygen", "--output", &file], 0).await;
            let public = said
                .split_whitespace()
                .find(|word| word.starts_with("age1"));
            let name = format!("UTXOIQ_STORE_BACKUP__{}_RECIPIENT", key.to_uppercase());
            self.set(&name, public.unwrap());
        }
        let identity = fs::read_to_string(self.folder.path().join("drill")).unwrap();
        let mut lines = identity.lines();
        let secret = lines.find(|line| line.starts_with("AGE-SECRET-KEY-"));
        self.set("UTXOIQ_STORE_BACKUP__DRILL_IDENTITY", secret.unwrap());
    }

    async fn admin(&self) -> Dedicated {
        let url = format!("{}?sslmode=require", self.cluster.admin_url("postgres"));
        Dedicated::open(&url, "test").await.unwrap()
    }
}

#[tokio::test]
async fn a_whole_service_runs_with_nothing_in_the_clear() {
    let authority = Authority::new();
    let mut house = House::new(&authority).await;
    house.run(&["init"], 0).await;
    let admin = house.admin().await;
    admin.batch_execute("create database drills").await.unwrap();
    for role in ["utxoiq_app", "utxoiq_drill"] {
        let sql = format!("alter role {role} password '{PASSWORD}'");
        admin.batch_execute(&sql).await.unwrap();
    }
    house.make_keys().await;
    // The backup's role has the platform's token for a password.
    let sql = format!("alter role utxoiq_backup password '{TOKEN}'");
    admin.batch_execute(&sql).await.unwrap();
    let service = TokenService::start(TOKEN, 3_600).await;
    let backup_url = format!(
        "postgresql://utxoiq_backup@127.0.0.1:{}/postgres?password_source={}",
        house.cluster.port(),
        service.url()
    );
    house.set("UTXOIQ_STORE_DATABASE__BACKUP_URL", backup_url);
    house.run(&["migrate", "up"], 0).await;
    let scopes = ["token", "create", "--name", "t", "--scopes", "all"];
    let token = house.run(&scopes, 0).await;
    house.set("UTXOIQ_STORE_TOKEN", token.trim());

    let server = house.spawn(&["serve"]);
    for words in ["listening", "Redis answers"] {
        let said = server
            .wait_for_line(|line| line.contains(words), PATIENCE)
            .await;
        said.unwrap_or_else(|output| panic!("it does not say {words}: {output}"));
    }
    let start = [
        "backfill", "start", "--type", "blocks", "--from", "0", "--to", "9",
    ];
    house.run(&start, 0).await;
    assert!(house.run(&["backfill", "list"], 0).await.contains("blocks"));
    let sql = "select count(*) filter (where ssl), count(*) filter (where not ssl)
        from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'utxoiq_app'";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let (encrypted, plain): (i64, i64) = (row.get(0), row.get(1));
    assert!(encrypted >= 5 && plain == 0, "{encrypted} {plain}");

    // Who trusts another authority talks to nobody: neither the client, nor a second server.
    let other = Authority::new();
    house.set("UTXOIQ_STORE_CA_FILE", text(&other.file()));
    house.run(&["backfill", "list"], 1).await;
    house.set("UTXOIQ_STORE_CA_FILE", text(&authority.file()));

    house.run(&["backup", "create"], 0).await;
    assert!(service.asked() >= 1);
    house.run(&["backup", "drill"], 0).await;
    // PostgreSQL's tools verify as well.
    house.set("UTXOIQ_STORE_DATABASE__TLS_CA_FILE", text(&other.file()));
    let said = house.run(&["backup", "create"], 1).await;
    assert!(said.contains("authority that is not trusted"), "{said}");

    server.terminate();
    assert!(server.wait(PATIENCE).await.unwrap().success());
    let logs = server.output();
    assert!(!logs.contains("in the clear"), "{logs}");
    for secret in [PASSWORD, TOKEN, house.redis.password(), token.trim()] {
        assert!(!logs.contains(secret), "{logs}");
    }
}
