//! TLS to PostgreSQL, against servers with certificates of all kinds.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use utxoiq_store::db::{Dedicated, pool::ConnectCause};
use utxoiq_store_testkit::{Authority, Issued, PgCluster, PgOptions, urls};

use super::{failures, pool, told};

const HBA: &str = "\
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
local all all scram-sha-256
";

/// Parameters that verify with an authority.
fn verify(mode: &str, authority: &Authority) -> String {
    format!(
        "sslmode={mode} sslrootcert='{}'",
        authority.file().display()
    )
}

/// A server that takes nobody without TLS, and the authorities around it.
struct World {
    ours: Authority,
    theirs: Authority,
    clients: Authority,
    cluster: PgCluster,
}

impl World {
    async fn new() -> Self {
        let (ours, clients) = (Authority::new(), Authority::new());
        let cluster = PgCluster::start(PgOptions {
            certificate: Some(ours.issue(&["db.utxoiq.test", "127.0.0.1"])),
            client_ca_file: Some(clients.file()),
            hba: Some(HBA.to_owned()),
            socket: true,
            ..PgOptions::default()
        })
        .await;
        Self {
            ours,
            theirs: Authority::new(),
            clients,
            cluster,
        }
    }

    /// An address of the server under a name, with more parameters.
    fn named(&self, host: &str, more: &str) -> String {
        format!(
            "host={host} hostaddr=127.0.0.1 port={} user=postgres password={} dbname=postgres {more}",
            self.cluster.port(),
            self.cluster.password()
        )
    }

    /// Whether the connection is encrypted.
    async fn accepts(&self, address: &str) -> bool {
        let connection = Dedicated::open(address, "transport")
            .await
            .unwrap_or_else(|error| panic!("{}", told(&error, self.cluster.password())));
        let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        connection.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// What is said when it is refused.
    async fn refuses(&self, address: &str, code: &str) -> String {
        let error = Dedicated::open(address, "transport").await.err();
        let error = error.unwrap_or_else(|| panic!("{address} must be refused"));
        told(&error, self.cluster.password());
        assert_eq!(error.code(), code, "{}", error.report());
        error.message().to_owned()
    }

    async fn show(&self, certificate: &Issued) {
        self.cluster.use_certificate(certificate);
        let address = self.named("x.test", "sslmode=require");
        let admin = Dedicated::open(&address, "transport").await.unwrap();
        admin.execute("select pg_reload_conf()", &[]).await.unwrap();
        // The postmaster reads it a moment later; it says so in its log.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn each_mode_accepts_and_refuses_what_libpq_has_it_accept_and_refuse() {
    let world = World::new().await;
    let (full, ca) = ("verify-full", "verify-ca");
    let (ours, theirs) = (&world.ours, &world.theirs);
    let named = |host: &str, more: &str| world.named(host, more);
    for good in [
        named("db.utxoiq.test", &verify(full, ours)),
        named("127.0.0.1", &verify(full, ours)),
        // Its own default, where an authority is named.
        named(
            "db.utxoiq.test",
            &format!("sslrootcert='{}'", ours.file().display()),
        ),
        named("other.utxoiq.test", &verify(ca, ours)),
        named("other.utxoiq.test", "sslmode=require"),
        named("other.utxoiq.test", "sslmode=prefer"),
        named("other.utxoiq.test", ""),
    ] {
        assert!(world.accepts(&good).await);
    }
    let url = format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        world.cluster.admin_url("postgres"),
        ours.file().display()
    );
    assert!(world.accepts(&url).await);

    for (bad, why) in [
        (named("db.utxoiq.test", &verify(full, theirs)), "authority"),
        (named("db.utxoiq.test", &verify(ca, theirs)), "authority"),
        (named("db.utxoiq.test", "sslmode=verify-full"), "authority"),
        (
            named("other.utxoiq.test", &verify(full, ours)),
            "another name",
        ),
    ] {
        let message = world.refuses(&bad, "database_tls_failed").await;
        assert!(message.contains(why), "{message}");
    }
    let plain = named("127.0.0.1", "sslmode=disable");
    world.refuses(&plain, "database_unavailable").await;

    world.show(&ours.issue_expired(&["db.utxoiq.test"])).await;
    for mode in [full, ca] {
        let expired = named("db.utxoiq.test", &verify(mode, ours));
        let message = world.refuses(&expired, "database_tls_failed").await;
        assert!(message.contains("expired"), "{message}");
    }
    // It verifies nothing, as is said of it.
    assert!(
        world
            .accepts(&named("db.utxoiq.test", "sslmode=require"))
            .await
    );
    world.show(&ours.issue(&["db.utxoiq.test"])).await;
    assert!(
        world
            .accepts(&named("db.utxoiq.test", &verify(full, ours)))
            .await
    );
}

#[tokio::test]
async fn a_pool_connects_by_tls_and_tries_a_wrong_certificate_once() {
    let world = World::new().await;
    let good = world.named("db.utxoiq.test", &verify("verify-full", &world.ours));
    let good = pool(&good).unwrap();
    let sql = "select version from pg_stat_ssl where pid = pg_backend_pid()";
    let row = good.get().await.unwrap().query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "TLSv1.3");

    let bad = world.named("db.utxoiq.test", &verify("verify-full", &world.theirs));
    let bad = pool(&bad).unwrap();
    let error = bad.get().await.unwrap_err();
    assert_eq!(error.code(), "database_tls_failed");
    told(&error, world.cluster.password());
    assert_eq!(failures(&bad), [(ConnectCause::Tls, 1)]);

    let missing = world.named(
        "db.utxoiq.test",
        "sslmode=verify-full sslrootcert=/no/such.pem",
    );
    let error = pool(&missing).unwrap_err();
    assert_eq!(error.code(), "invalid_config");
    assert!(error.message().contains("/no/such.pem"), "{error}");
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_the_server_asks_for_one() {
    let world = World::new().await;
    let admin = world.named("x.test", "sslmode=require");
    let admin = Dedicated::open(&admin, "transport").await.unwrap();
    admin
        .batch_execute("create role certified login")
        .await
        .unwrap();
    let address = |issued: Option<&Issued>| {
        let files = issued.map_or_else(String::new, |issued| {
            format!(
                "sslcert='{}' sslkey='{}'",
                issued.certificate_file.display(),
                issued.key_file.display()
            )
        });
        format!(
            "host=127.0.0.1 port={} user=certified dbname=postgres {} {files}",
            world.cluster.port(),
            verify("verify-full", &world.ours)
        )
    };
    let good = world.clients.issue(&["certified"]);
    assert!(world.accepts(&address(Some(&good))).await);
    world.refuses(&address(None), "database_unavailable").await;
    let stranger = world.clients.issue(&["stranger"]);
    world
        .refuses(&address(Some(&stranger)), "database_unavailable")
        .await;
    let forged = world.theirs.issue(&["certified"]);
    let message = world
        .refuses(&address(Some(&forged)), "database_tls_failed")
        .await;
    assert!(message.contains("sslcert"), "{message}");
}

/// Answers every question for TLS with no, and keeps what is said then.
async fn stripping() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let hearing = Arc::clone(&hearing);
            tokio::spawn(async move {
                let mut question = [0; 8];
                stream.read_exact(&mut question).await.unwrap();
                assert_eq!(question[4..], [0x04, 0xd2, 0x16, 0x2f]);
                stream.write_all(b"N").await.unwrap();
                let mut said = [0; 1024];
                if let Ok(count) = stream.read(&mut said).await {
                    hearing.lock().unwrap().extend_from_slice(&said[..count]);
                }
            });
        }
    });
    (port, heard)
}

#[tokio::test]
async fn who_strips_tls_hears_neither_user_nor_password() {
    let ours = Authority::new();
    let (port, heard) = stripping().await;
    let address =
        |more: &str| format!("host=127.0.0.1 port={port} user=ann password=s3cret dbname=d {more}");
    let ca = format!("sslrootcert='{}'", ours.file().display());
    for more in [
        "sslmode=require".to_owned(),
        format!("sslmode=verify-ca {ca}"),
        format!("sslmode=verify-full {ca}"),
        ca.clone(),
    ] {
        let error = Dedicated::open(&address(&more), "transport")
            .await
            .err()
            .unwrap();
        assert_eq!(error.code(), "database_tls_failed");
        assert!(error.message().contains("offers no TLS"), "{error}");
        told(&error, "s3cret");
        let pool = pool(&address(&more)).unwrap();
        assert_eq!(pool.get().await.unwrap_err().code(), "database_tls_failed");
        assert_eq!(failures(&pool), [(ConnectCause::Tls, 1)]);
    }
    assert!(heard.lock().unwrap().is_empty());
    // That it does hear: who only prefers TLS goes on without.
    let _ = Dedicated::open(&address("sslmode=prefer"), "transport").await;
    assert!(!heard.lock().unwrap().is_empty());
    // A real server without TLS is refused alike.
    let plain = format!("{}?sslmode=require", urls::admin_url());
    let error = Dedicated::open(&plain, "transport").await.err().unwrap();
    assert_eq!(error.code(), "database_tls_failed");
}

#[tokio::test]
async fn a_socket_is_reached_without_tls_whatever_is_asked_for() {
    let world = World::new().await;
    let dir = world.cluster.socket_dir();
    for more in ["", "&sslmode=verify-full", "&sslmode=require"] {
        let url = format!(
            "postgresql://postgres:{}@/postgres?host={}&port={}{more}",
            world.cluster.password(),
            dir.display(),
            world.cluster.port()
        );
        assert!(!world.accepts(&url).await);
        let pool = pool(&url).unwrap();
        pool.get()
            .await
            .unwrap()
            .execute("select 1", &[])
            .await
            .unwrap();
    }
}
