//! No secret is in an argument, a log, an error, a table, a notice or a manifest.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use utxoiq_store::backup::Progress;
use utxoiq_store_testkit::{FakeGcs, FaultProxy, Mode, Received, Receiver};

use super::{
    night::{Night, noise, tool_of},
    *,
};
use crate::support::PASSWORD;

/// What is in every secret that is not a key or the password of a role.
const MARK: &str = "s3cr3t-mark";

/// Everything that is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All that the database has of backups and alerts, as text.
async fn kept(house: &House) -> String {
    let sql = "select concat((select jsonb_agg(b) from backups b), (select jsonb_agg(a) from alerts a),
                      (select jsonb_agg(d) from alert_deliveries d), (select jsonb_agg(l) from audit_log l))::text";
    house.admin.query_one(sql, &[]).await.unwrap().get(0)
}

/// The arguments of pg_dump in the middle of a dump, which then fails.
async fn arguments(house: &House, night: &Night, proxy: &FaultProxy) -> (String, Error) {
    let progress = Progress::default();
    let backups = night.store.backups();
    let (made, seen) = tokio::join!(
        backups.make(Some(night.slot), ACTOR, night.now(), &progress),
        async {
            // As soon as it is there: a small database is soon dumped.
            let mut found = None;
            until("a dump began", async || {
                found = tool_of("pg_dump", house.db.name());
                found.is_some()
            })
            .await;
            proxy.set(Mode::Silent).await;
            let (pid, seen) = found.unwrap();
            super::night::kill9(pid);
            proxy.set(Mode::Pass).await;
            seen
        }
    );
    (seen, made.unwrap_err())
}

#[tokio::test]
async fn no_secret_of_a_backup_is_where_somebody_can_read_it() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, whoever is first at a line of code decides whether it is logged, also a test without any.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);

    let listens = Receiver::start().await;
    let beat = listens.url(&format!("/ping/{MARK}"));
    let slack = listens.url(&format!("/slack/{MARK}"));
    let (house, mut night) = Night::new(&[]).await;
    house.admin.batch_execute(&noise(4 * 1024)).await.unwrap();
    let good = house.db.url_of(roles::BACKUP);
    let port = url::Url::parse(&good).unwrap().port().unwrap();
    let proxy = FaultProxy::start_for_port(port).await;
    let mut proxied = url::Url::parse(&good).unwrap();
    proxied.set_port(Some(proxy.addr().port())).unwrap();
    let server = FakeGcs::start().await;
    let account = house.scratch.path().join("account.json");
    let key = server.service_account().replace(
        r#""private_key": """#,
        &format!(r#""private_key": "{MARK}""#),
    );
    std::fs::write(&account, key).unwrap();
    let endpoint = server.url();
    let told = night.and_told(&[
        ("UTXOIQ_STORE_DATABASE__BACKUP_URL", proxied.as_str()),
        ("UTXOIQ_STORE_ALERT__BACKUP_HEARTBEAT_URL", &beat),
        ("UTXOIQ_STORE_ALERT__WATCH_HEARTBEAT_URL", &beat),
        ("UTXOIQ_STORE_ALERT__SLACK_URL", &slack),
        (
            "UTXOIQ_STORE_ALERT__WEBHOOK_SECRET",
            "s3cr3t-mark-of-the-webhook",
        ),
        ("UTXOIQ_STORE_BACKUP_STORE__URL", "gs://first/prefix"),
        ("UTXOIQ_STORE_BACKUP_STORE__ENDPOINT", &endpoint),
        ("UTXOIQ_STORE_BACKUP_STORE__ALLOW_HTTP", "true"),
        ("UTXOIQ_STORE_BACKUP_STORE__TIMEOUT_SECONDS", "2"),
        (
            "UTXOIQ_STORE_BACKUP_STORE__SERVICE_ACCOUNT_PATH",
            account.to_str().unwrap(),
        ),
        ("UTXOIQ_STORE_BACKUP_COPY__URL", "s3://second/prefix"),
        ("UTXOIQ_STORE_BACKUP_COPY__ENDPOINT", &endpoint),
        ("UTXOIQ_STORE_BACKUP_COPY__ALLOW_HTTP", "true"),
        ("UTXOIQ_STORE_BACKUP_COPY__TIMEOUT_SECONDS", "2"),
        ("UTXOIQ_STORE_BACKUP_COPY__ACCESS_KEY_ID", MARK),
        ("UTXOIQ_STORE_BACKUP_COPY__SECRET_ACCESS_KEY", MARK),
    ]);
    let store = house.another(&told);
    let wrong = good.replace(PASSWORD, MARK);
    let refused = house.another(&night.and_told(&[("UTXOIQ_STORE_DATABASE__BACKUP_URL", &wrong)]));
    let mut seen = format!("{:?}{:?}", store.config(), store.backups());

    // A dump that is killed, one that goes well, one with a wrong password, and stores that refuse and answer with errors.
    night.change(store.clone());
    let (argv, killed) = arguments(&house, &night, &proxy).await;
    assert!(argv.contains("--snapshot="), "{argv}");
    night.is_told("backup_failed").await;
    let made = night.is_made_good("backup_failed").await;
    let (manifest, _) = Manifest::get(
        &Bucket::open(&(&store.config().backup_store).into())
            .unwrap()
            .unwrap(),
        made.key,
    )
    .await
    .unwrap();
    let mut errors = vec![killed];
    for (fault, store) in [(0, &refused), (1, &store), (2, &store)] {
        night.next_night();
        night.change(store.clone());
        match fault {
            1 => server.refuse(true),
            2 => server.fail(usize::MAX),
            _ => {}
        }
        errors.push(night.make().await.unwrap_err());
        night.is_told("backup_failed").await;
        server.refuse(false);
        server.fail(0);
    }
    let beats = store.alerts().backup_heartbeat();
    beats.failure(made.id, errors[1].message()).await;

    let reports: Vec<String> = errors
        .iter()
        .map(|error| format!("{error:?} {}", error.report()))
        .collect();
    let bodies = [night.hook.taken(), listens.taken()].concat();
    let bodies: Vec<String> = bodies.iter().map(Received::text).collect();
    assert!(bodies.len() > 6, "{bodies:?}");
    seen.push_str(&kept(&house).await);
    seen.push_str(&format!("{argv}{reports:?}{bodies:?}"));
    seen.push_str(&serde_json::to_string(&manifest).unwrap());
    let secrets = [
        MARK,
        PASSWORD,
        &house.drill.identity.expose()[20..],
        "of-the-webhook",
    ];
    logged.has_none_of(seen, &secrets);
}

impl Logged {
    /// None of these is in what was logged or was seen elsewhere.
    fn has_none_of(&self, mut seen: String, secrets: &[&str]) {
        let logged = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains("a backup or restore goes on"));
        seen.push_str(&logged);
        for secret in secrets {
            if let Some(at) = seen.find(secret) {
                let around = at.saturating_sub(150)..(at + 60).min(seen.len());
                panic!("{secret} is in: {}", seen.get(around).unwrap_or("…"));
            }
        }
    }
}
