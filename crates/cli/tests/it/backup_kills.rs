//! A process is killed in the middle of a backup: another process tells it in time, looks after what is left, and makes it anew.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use serde_json::Value;
use utxoiq_store::{
    Store,
    alert::Filter,
    backup::{KeyPair, Progress},
    clock::FixedClock,
    config::Loader,
    worker::watch::Watch,
};
use utxoiq_store_testkit::{FaultProxy, Mode, Receiver};

use crate::support::{PASSWORD, Service, until};

/// Twelve megabytes that nothing compresses.
const NOISE: &str = "create table noise (id integer primary key, bytes bytea not null);
    alter table noise owner to utxoiq_owner;
    grant select on noise to utxoiq_backup;
    insert into noise select n, (select string_agg(uuid_send(gen_random_uuid()), ''::bytea) from generate_series(1, 64 + n * 0))
    from generate_series(1, 12288) n";

/// What another process has as its settings.
fn settings(service: &Service, port: u16, hook: &str) -> Vec<(String, String)> {
    let (recovery, drill) = (KeyPair::generate(), KeyPair::generate());
    let backup = service.cluster.url("utxoiq_backup", PASSWORD, "postgres");
    let backup = backup.replace(&service.cluster.port().to_string(), &port.to_string());
    let folder = service.path("backups");
    std::fs::create_dir_all(&folder).unwrap();
    [
        ("DATABASE__BACKUP_URL", backup),
        ("BACKUP_STORE__URL", format!("file://{}", folder.display())),
        ("BACKUP__RECOVERY_RECIPIENT", recovery.recipient),
        ("BACKUP__DRILL_RECIPIENT", drill.recipient),
        ("BACKUP__LEASE_SECONDS", "10".to_owned()),
        ("ALERT__WEBHOOK_URL", hook.to_owned()),
        ("ALERT__WEBHOOK_SECRET", "a key of some length".to_owned()),
    ]
    .map(|(name, value)| (format!("UTXOIQ_STORE_{name}"), value))
    .into()
}

/// What somebody was told of failed backups.
fn told(hook: &Receiver) -> Vec<Value> {
    let taken = hook.taken().into_iter();
    let told = taken.map(|one| serde_json::from_slice::<Value>(&one.body).unwrap());
    let is_about = |told: &Value| {
        let key = told["alert"]["key"].as_str().unwrap();
        key.starts_with("backup_failed")
    };
    told.filter(is_about).collect()
}

fn files(service: &Service) -> Vec<String> {
    let entries = std::fs::read_dir(service.path("backups/backups"));
    let entries = entries.into_iter().flatten();
    entries
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn a_process_that_is_killed_in_the_middle_is_told_by_another_process_which_makes_the_backup()
{
    let hook = Receiver::start().await;
    let service = Service::start(&[("SCHEDULE__ENABLED", "false")]).await;
    let admin = service.admin().await;
    let set = format!("alter role utxoiq_backup password '{PASSWORD}'");
    admin.batch_execute(&set).await.unwrap();
    admin.batch_execute(NOISE).await.unwrap();
    let proxy = FaultProxy::start_for_port(service.cluster.port()).await;
    let more = settings(&service, proxy.addr().port(), &hook.url("/hook"));
    // What the server does at one o'clock.
    let process = service.spawn_with(&more, &["schedule", "run", "make_backup"]);
    let running = "select count(*) from backups where state = 'running'";
    let count = async |sql: &str| -> i64 { admin.query_one(sql, &[]).await.unwrap().get(0) };
    until("a backup runs", async || count(running).await == 1).await;
    let before = proxy.bytes_to_client();
    until("it is in its middle", async || {
        proxy.bytes_to_client() > before + 1_000_000
    })
    .await;
    proxy.set(Mode::Silent).await;
    // Alone, as by the kernel: its pg_dump lives on for a moment.
    process.kill9_alone();
    process.wait(Duration::from_secs(10)).await.unwrap();
    proxy.set(Mode::Pass).await;
    assert_eq!(
        count(running).await,
        1,
        "nobody was there to say that it failed"
    );

    // Another process, with a clock that is put forward.
    let clock = FixedClock::at(service.store().now());
    let other = service.envs_with(&more);
    let config = Loader::default().env(other).unwrap().finish().unwrap();
    let store = Store::with_clock(config, Arc::new(clock.clone())).unwrap();
    let killed_at = store.now();
    let mut watch = Watch::new(store.clone());
    while told(&hook).is_empty() {
        watch.look(store.now()).await;
        clock.advance(TimeDelta::seconds(30));
        assert!(
            store.now() - killed_at < TimeDelta::minutes(5),
            "it was not told"
        );
    }
    let backups = store.backups();
    let made = backups
        .make(None, "another", store.now(), &Progress::default())
        .await
        .unwrap();
    assert_eq!(made.state.as_str(), "verified");
    let settled = backups.settle(store.now()).await.unwrap();
    assert_eq!(settled, (0, 1));
    let mut left = files(&service);
    left.sort();
    let own = [made.key.to_string(), made.key.manifest().to_string()];
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(
        own.iter()
            .all(|key| left.iter().any(|file| key.ends_with(file.as_str())))
    );
    watch.look(store.now()).await;
    let kinds: Vec<String> = told(&hook)
        .iter()
        .map(|one| one["kind"].to_string())
        .collect();
    assert_eq!(kinds, ["\"firing\"", "\"resolved\""]);
    let open = store
        .alerts()
        .list(store.pool(), Filter::Open, 10, 0)
        .await
        .unwrap();
    assert!(
        open.alerts
            .iter()
            .all(|one| !one.alert.key.starts_with("backup_failed"))
    );
}
