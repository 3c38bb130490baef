//! Processes that are killed, and a database that is away or freezes.

use utxoiq_store::{clock::SystemClock, config::Loader, db::migrate::Migrator};
use utxoiq_store_testkit::{PgCluster, PgOptions, ports::free_port};

use super::*;
use crate::support::PASSWORD;

/// The port of a database's server.
fn port_of(url: &str) -> u16 {
    url::Url::parse(url).unwrap().port().unwrap()
}

/// The same address with another port.
fn through(url: &str, proxy: &FaultProxy) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_port(Some(proxy.addr().port())).unwrap();
    url.into()
}

/// Waits until the dump is in its middle, and keeps it there.
async fn stop_in_the_middle(proxy: &FaultProxy, progress: &Progress) {
    until("a dump began", async || {
        progress.step() == "dumping" && progress.done() > 0
    })
    .await;
    proxy.set(Mode::Silent).await;
}

#[tokio::test]
async fn a_killed_pg_dump_and_a_wrong_password_are_told_in_time() {
    let (house, mut night) = Night::new(&[]).await;
    house.admin.batch_execute(&noise(12 * 1024)).await.unwrap();
    let good = house.db.url_of(roles::BACKUP);
    let proxy = FaultProxy::start_for_port(port_of(&good)).await;
    let proxied = through(&good, &proxy);
    let with =
        |url: &str| house.another(&night.and_told(&[("UTXOIQ_STORE_DATABASE__BACKUP_URL", url)]));
    let (slow, wrong) = (with(&proxied), with(&good.replace(PASSWORD, "an-old-one")));
    night.change(slow);
    let progress = Progress::default();
    let backups = night.store.backups();
    let (made, killed) = tokio::join!(
        backups.make(Some(night.slot), ACTOR, night.now(), &progress),
        async {
            stop_in_the_middle(&proxy, &progress).await;
            let (pid, _) = tool_of("pg_dump", house.db.name()).unwrap();
            kill9(pid);
            proxy.set(Mode::Pass).await;
            progress.done()
        }
    );
    assert!(killed < 20_000_000, "{killed}: it was in its middle");
    assert_eq!(made.unwrap_err().code(), "backup_tool_failed");
    night.nothing_is_half_stored(&house.first).await;
    assert!(House::files(&house.first).is_empty());
    let told = night.is_told("backup_failed").await;
    assert!(
        told["alert"]["detail"]
            .as_str()
            .unwrap()
            .contains("signal: 9"),
        "{told}"
    );
    night.is_made_good("backup_failed").await;

    night.next_night();
    let right = night.store.clone();
    night.change(wrong);
    night.make().await.unwrap_err();
    let told = night.is_told("backup_failed").await;
    assert!(!told.to_string().contains("an-old-one"), "{told}");
    let detail = told["alert"]["detail"].as_str().unwrap();
    assert!(detail.contains("check database.backup_url"), "{detail}");
    night.change(right);
    night.is_made_good("backup_failed").await;
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_at_the_start() {
    for (name, value) in [
        ("UTXOIQ_STORE_BACKUP__RECOVERY_RECIPIENT", "age1rubbish"),
        ("UTXOIQ_STORE_BACKUP__DRILL_RECIPIENT", "ssh-ed25519 AAAA"),
        (
            "UTXOIQ_STORE_BACKUP__DRILL_IDENTITY",
            "AGE-SECRET-KEY-1RUBBISH",
        ),
    ] {
        let house = House::new().await;
        let vars = house.vars(&[(name, value)]);
        let vars: Vec<_> = vars.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let config = house.db.settings_with(&vars);
        let error = Store::open(config).err().unwrap();
        assert_eq!(error.code(), "invalid_config", "{name}");
        assert!(!format!("{error:?}").contains("RUBBISH"), "{error:?}");
    }
}

/// A process that ends in the middle leaves a row that says that it runs, and parts of an object.
#[tokio::test]
async fn a_run_whose_process_is_gone_is_told_in_time_settled_and_done_anew() {
    let (house, mut night) = Night::new(&[]).await;
    let half = BackupKey::dump(night.slot, uuid::Uuid::from_u128(9));
    let lease = night.now() + TimeDelta::seconds(60);
    let row = "insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key)
               values ($1, $2, $2, 'gone', $3, 'running', $4)";
    house
        .admin
        .execute(row, &[&half.id, &night.slot, &lease, &half.to_string()])
        .await
        .unwrap();
    std::fs::create_dir(house.first.path().join("backups")).unwrap();
    std::fs::write(house.file(half), "half").unwrap();
    std::fs::write(house.first.path().join(format!("{half}#7")), "half").unwrap();
    // While the lease runs it may be alive.
    assert!(night.look().await.is_empty());
    night.is_told("backup_failed").await;
    night.is_made_good("backup_failed").await;
    let now = night.now();
    assert_eq!(night.store.backups().settle(now).await.unwrap(), (0, 1));
    assert_eq!(House::files(&house.first).len(), 2);
    let runs = night.nothing_is_half_stored(&house.first).await;
    let states: Vec<&str> = runs.iter().map(|run| run.state.as_str()).collect();
    assert_eq!(states, ["verified", "abandoned"]);
}

#[tokio::test]
async fn a_postgresql_that_is_killed_in_the_middle_is_told_without_it_and_kept_when_it_is_back() {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let admin_url = cluster.admin_url("postgres");
    roles::init(&admin_url).await.unwrap();
    let admin = crate::support::connect(&admin_url).await;
    for role in roles::LOGIN {
        let set = format!("alter role {role} password '{PASSWORD}'");
        admin.batch_execute(&set).await.unwrap();
    }
    let migrator = Migrator::embedded().unwrap();
    migrator.up(&admin_url, &SystemClock).await.unwrap();
    admin.batch_execute(&noise(12 * 1024)).await.unwrap();
    drop(admin);

    let (folder, hook) = (TempDir::new().unwrap(), Receiver::start().await);
    let proxy = FaultProxy::start_for_port(cluster.port()).await;
    let backup_url = cluster.url(roles::BACKUP, PASSWORD, "postgres");
    let vars = [
        (
            "DATABASE_URL",
            cluster.url(roles::APP, PASSWORD, "postgres"),
        ),
        (
            "UTXOIQ_STORE_DATABASE__BACKUP_URL",
            through(&backup_url, &proxy),
        ),
        (
            "UTXOIQ_STORE_DATABASE__ACQUIRE_TIMEOUT_MILLISECONDS",
            "500".to_owned(),
        ),
        (
            "UTXOIQ_STORE_DATABASE__CONNECT_TIMEOUT_MILLISECONDS",
            "400".to_owned(),
        ),
        ("UTXOIQ_STORE_DATABASE__CONNECT_RETRIES", "0".to_owned()),
        (
            "UTXOIQ_STORE_BACKUP_STORE__URL",
            format!("file://{}", folder.path().display()),
        ),
        (
            "UTXOIQ_STORE_BACKUP__RECOVERY_RECIPIENT",
            KeyPair::generate().recipient,
        ),
        (
            "UTXOIQ_STORE_BACKUP__DRILL_RECIPIENT",
            KeyPair::generate().recipient,
        ),
    ];
    let hook_url = hook.url("/hook");
    let told = told_to(&hook_url).map(|(name, value)| (name, value.to_owned()));
    let vars = vars.into_iter().chain(told);
    let vars = vars.map(|(name, value)| (name.to_owned(), value));
    let config = Loader::default().env(vars).unwrap().finish().unwrap();
    let clock = FixedClock::at(super::night());
    let store = Store::with_clock(config, std::sync::Arc::new(clock.clone())).unwrap();
    let mut night = Night::over(store.clone(), clock.clone(), hook);
    assert!(night.look().await.is_empty());

    let progress = Progress::default();
    let backups = store.backups();
    let (made, ()) = tokio::join!(
        backups.make(Some(night.slot), ACTOR, store.now(), &progress),
        async {
            stop_in_the_middle(&proxy, &progress).await;
            assert!(night.look().await.is_empty());
            cluster.kill9().await;
            proxy.set(Mode::Pass).await;
        }
    );
    made.unwrap_err();
    assert!(House::files(&folder).is_empty());
    let fact_at = store.now();
    night.is_told("database_unreachable").await;
    while night.notices("backup_failed").is_empty() {
        clock.advance(STEP);
        night.look().await;
        assert!(store.now() - fact_at < IN_TIME);
    }

    cluster.start_again().await;
    until("the database is back", async || {
        store.pool().get().await.is_ok()
    })
    .await;
    night.is_over("database_unreachable").await;
    assert_eq!(night.open().await, ["backup_failed:2026-03-02T01:00Z"]);
    assert_eq!(night.notices("backup_failed").len(), 1, "it is told once");
    night.is_made_good("backup_failed").await;
    night.nothing_is_half_stored(&folder).await;
}

#[tokio::test]
async fn a_database_that_freezes_holds_nobody_up() {
    let (house, mut night) = Night::new(&[]).await;
    let url = house.db.app_url();
    let proxy = FaultProxy::start_for_port(port_of(&url)).await;
    let proxied = through(&url, &proxy);
    night.change(house.another(&night.and_told(&[("DATABASE_URL", &proxied)])));
    assert!(night.look().await.is_empty());
    proxy.set(Mode::Silent).await;
    let began = std::time::Instant::now();
    night.look().await;
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
    night.clock.advance(TimeDelta::seconds(60));
    night.look().await;
    assert_eq!(night.notices("database_unreachable").len(), 1);
}

#[tokio::test]
async fn nobody_listens_where_the_object_store_is() {
    // A store that refuses connections, as opposed to one that answers.
    let (house, mut night) = Night::new(&[]).await;
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let good = night.store.clone();
    night.change(house.another(&night.and_told(&[
        ("UTXOIQ_STORE_BACKUP_STORE__URL", "s3://bucket"),
        ("UTXOIQ_STORE_BACKUP_STORE__ENDPOINT", &endpoint),
        ("UTXOIQ_STORE_BACKUP_STORE__ALLOW_HTTP", "true"),
        ("UTXOIQ_STORE_BACKUP_STORE__ACCESS_KEY_ID", "k"),
        ("UTXOIQ_STORE_BACKUP_STORE__SECRET_ACCESS_KEY", "s"),
        ("UTXOIQ_STORE_BACKUP_STORE__TIMEOUT_SECONDS", "1"),
    ])));
    let error = night.make().await.unwrap_err();
    assert_eq!(error.code(), "cold_store_unavailable");
    night.is_told("backup_failed").await;
    night.change(good);
    night.is_made_good("backup_failed").await;
}
