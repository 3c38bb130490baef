//! What a backup is, and what is left of one that was not made.

use super::*;

#[tokio::test]
async fn a_backup_is_one_moment_of_all_tables_and_is_read_back() {
    let house = House::with(&[("UTXOIQ_STORE_BACKUP_COPY__URL", "file://SECOND")]).await;
    house.fill().await;
    let backup = house.make().await.unwrap();
    assert_eq!(backup.state.as_str(), "verified");
    assert!(backup.verified_at.is_some() && backup.copied_at.is_some());
    let mut names = [backup.key.to_string(), backup.key.manifest().to_string()]
        .map(|name| name.trim_start_matches("backups/").to_owned());
    names.sort();
    assert_eq!(House::files(&house.first), names);
    assert_eq!(House::files(&house.second), names);
    for name in &names {
        let at =
            |folder: &TempDir| std::fs::read(folder.path().join("backups").join(name)).unwrap();
        assert_eq!(at(&house.first), at(&house.second));
    }
    let manifest = house.manifest(&backup).await;
    assert_eq!(manifest.rows(), backup.rows);
    let counted = house
        .admin
        .query_one("select count(*) from insight_feedback", &[])
        .await
        .unwrap();
    let feedback = &manifest.tables["public.insight_feedback"];
    assert_eq!(feedback.rows, counted.get::<_, i64>(0));
    assert!(manifest.dump.stored_bytes < manifest.dump.plain_bytes);
    // The next one names it.
    house.later(60);
    let next = house.make().await.unwrap();
    let previous = house.manifest(&next).await.previous.unwrap();
    assert_eq!(previous.backup_id, backup.id);
    assert_eq!(Some(previous.manifest_sha256), backup.manifest_sha256);
}

#[tokio::test]
async fn an_object_that_goes_or_changes_is_noticed_without_being_read() {
    let house = House::new().await;
    let backup = house.make().await.unwrap();
    let backups = house.store.backups();
    assert!(backups.inventory().await.unwrap().faults.is_empty());
    let file = house.file(backup.key);
    let bytes = std::fs::read(&file).unwrap();
    let faults = async || {
        let found = backups.inventory().await.unwrap();
        let faults = found.faults.get(&backup.id).cloned().unwrap_or_default();
        faults.into_iter().collect::<Vec<_>>()
    };
    // One bit: same size, another time.
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    assert_eq!(faults().await, [Fault::Rewritten]);
    let error = backups
        .verify(backup.id, &Progress::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "backup_differs");
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(faults().await.contains(&Fault::Resized));
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(house.file(backup.key.manifest())).unwrap();
    assert_eq!(faults().await, [Fault::DumpMissing, Fault::ManifestMissing]);
    assert_eq!(
        house.stored(backup.id).await.damaged_at,
        Some(house.store.now())
    );
}

#[tokio::test]
async fn a_run_that_fails_leaves_its_reason_and_no_object() {
    // The tools that are not there.
    let house = House::with(&[("UTXOIQ_STORE_BACKUP__TOOLS_DIR", "/nonexistent")]).await;
    let error = house.make().await.unwrap_err();
    assert_eq!(error.code(), "backup_tool_missing");
    let runs = house.store.backups().list(true, 10, 0).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].state.as_str(), "failed");
    assert!(
        runs[0]
            .error
            .as_ref()
            .unwrap()
            .contains("backup_tool_missing")
    );
    assert!(House::files(&house.first).is_empty());
    // And it stands in nobody's way.
    let again = house.make().await.unwrap_err();
    assert_eq!(again.code(), "backup_tool_missing");
}

#[tokio::test]
async fn only_one_backup_is_made_at_a_time_and_a_dead_ones_place_is_taken() {
    let house = House::new().await;
    let lease = house.store.config().backup.lease_seconds;
    let running =
        "insert into backups (id, started_at, started_by, lease_expires_at, state, object_key)
                   values (gen_random_uuid(), $1, 'another', $2, 'running',
                           'backups/20260302T010000Z-00000000000000000000000000000001.dump.age')";
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&night(), &(night() + TimeDelta::seconds(lease.into()))];
    house.admin.execute(running, &params).await.unwrap();
    assert_eq!(house.make().await.unwrap_err().code(), "backup_running");
    house
        .clock
        .advance(TimeDelta::seconds(i64::from(lease) - 1));
    assert_eq!(house.make().await.unwrap_err().code(), "backup_running");
    house.clock.advance(TimeDelta::seconds(1));
    house.make().await.unwrap();
    let runs = house.store.backups().list(true, 10, 0).await.unwrap();
    let states: Vec<&str> = runs.iter().map(|run| run.state.as_str()).collect();
    assert_eq!(states, ["verified", "abandoned"]);
}

#[tokio::test]
async fn a_run_that_was_whole_but_not_recorded_becomes_a_backup_after_all() {
    let house = House::new().await;
    let backup = house.make().await.unwrap();
    let broken = House::files(&house.first).len();
    assert_eq!(broken, 2);
    // As its own row is in the database that is restored from it; and one of which only parts were stored.
    let undone = "update backups set state = 'abandoned', error = 'not heard of', stored_at = null, verified_at = null, sha256 = null,
                  manifest_sha256 = null, plain_bytes = null, stored_bytes = null, row_count = null, table_count = null,
                  schema_version = null, modified_at = null";
    house.admin.batch_execute(undone).await.unwrap();
    let half = BackupKey::dump(night(), uuid::Uuid::from_u128(5));
    let row = "insert into backups (id, started_at, started_by, lease_expires_at, state, object_key, ended_at, error)
               values ($1, $2, 'another', $2, 'failed', $3, $2, 'no reason')";
    house
        .admin
        .execute(row, &[&half.id, &night(), &half.to_string()])
        .await
        .unwrap();
    std::fs::write(house.file(half), "half").unwrap();
    let backups = house.store.backups();
    assert_eq!(backups.settle(house.store.now()).await.unwrap(), (1, 1));
    assert!(!house.file(half).exists());
    let adopted = house.stored(backup.id).await;
    assert_eq!(adopted.state.as_str(), "stored");
    backups
        .verify(backup.id, &Progress::default())
        .await
        .unwrap();
    let verified = house.stored(backup.id).await;
    assert_eq!(
        (verified.sha256, verified.rows),
        (backup.sha256, backup.rows)
    );
    // One that the history never knew is taken in when somebody asks for it.
    house
        .admin
        .batch_execute("delete from backups")
        .await
        .unwrap();
    assert_eq!(backups.inventory().await.unwrap().unknown, [backup.key]);
    assert_eq!(backups.settle(house.store.now()).await.unwrap(), (0, 0));
    assert_eq!(backups.adopt(ACTOR).await.unwrap(), [backup.id]);
    assert!(backups.inventory().await.unwrap().unknown.is_empty());
}

#[tokio::test]
async fn a_slot_that_is_run_again_goes_on_where_it_came_to() {
    let house = House::new().await;
    let backups = house.store.backups();
    let make = async || {
        let progress = Progress::default();
        backups
            .make(Some(night()), ACTOR, house.store.now(), &progress)
            .await
    };
    let made = make().await.unwrap();
    // It had died before it had read it back.
    house
        .admin
        .batch_execute("update backups set state = 'stored', verified_at = null")
        .await
        .unwrap();
    house.later(5);
    let again = make().await.unwrap();
    assert_eq!(again.id, made.id);
    assert_eq!(again.verified_at, Some(house.store.now()));
    assert_eq!(backups.list(true, 10, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn backups_go_when_their_time_is_over_and_the_audit_log_says_so() {
    let house = House::with(&[
        ("UTXOIQ_STORE_BACKUP__KEEP_DAILY", "2"),
        ("UTXOIQ_STORE_BACKUP__KEEP_WEEKLY", "0"),
        ("UTXOIQ_STORE_BACKUP_COPY__URL", "file://SECOND"),
    ])
    .await;
    let backups = house.store.backups();
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(house.make().await.unwrap());
        house.later(24 * 60);
    }
    // Nothing goes after a run that failed.
    let failed = "insert into backups (id, started_at, started_by, lease_expires_at, state, object_key, ended_at, error)
                  values (gen_random_uuid(), $1, 'another', $1, 'failed', 'backups/20260304T230000Z-00000000000000000000000000000001.dump.age', $1, 'no reason')";
    let later = house.store.now() - TimeDelta::hours(1);
    house.admin.execute(failed, &[&later]).await.unwrap();
    let kept = backups.prune(house.store.now(), ACTOR).await.unwrap();
    assert!(kept.iter().all(|one| one.verdict.keep), "{kept:?}");
    made.push(house.make().await.unwrap());
    let verdicts = backups.prune(house.store.now(), ACTOR).await.unwrap();
    let gone: Vec<_> = verdicts
        .iter()
        .filter(|one| !one.verdict.keep)
        .map(|one| one.backup.id)
        .collect();
    assert_eq!(gone, [made[1].id, made[0].id]);
    assert_eq!(House::files(&house.first).len(), 4);
    assert_eq!(House::files(&house.second).len(), 4);
    assert_eq!(house.stored(made[0].id).await.state.as_str(), "pruned");
    let logged = "select count(*) from audit_log where action = 'backup_prune' and actor = $1";
    let logged = house.admin.query_one(logged, &[&ACTOR]).await.unwrap();
    assert_eq!(logged.get::<_, i64>(0), 2);
}
