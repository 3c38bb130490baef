//! Object stores that lie, refuse, hang, are full, or lose what they had.

use std::process::Command;

use super::*;

const UNVERIFIED: &str = "backup_unverified";
const FAILED: &str = "backup_failed";

/// What happens to which requests, in their order, and what is told of it.
type Case = (
    &'static str,
    Request,
    &'static [Option<Fault>],
    &'static str,
);

/// What is done to the bytes of an object.
type Spoil = fn(&mut Vec<u8>);

/// Of an object of one part. The second request that writes, and the first two that read, are those of the manifest.
const SMALL: &[Case] = &[
    (
        "zero bytes",
        Request::Put,
        &[Some(Fault::Empty)],
        UNVERIFIED,
    ),
    (
        "truncated",
        Request::Put,
        &[Some(Fault::Truncate)],
        UNVERIFIED,
    ),
    ("one bit", Request::Put, &[Some(Fault::Flip)], UNVERIFIED),
    (
        "nothing was kept",
        Request::Put,
        &[Some(Fault::Nothing)],
        UNVERIFIED,
    ),
    ("403", Request::Put, &[Some(Fault::Refuse)], FAILED),
    (
        "a lost answer",
        Request::Put,
        &[Some(Fault::FailAfter)],
        FAILED,
    ),
    (
        "a write that hangs",
        Request::Put,
        &[Some(Fault::Hang)],
        FAILED,
    ),
    (
        "a bit of the manifest",
        Request::Put,
        &[None, Some(Fault::Flip)],
        FAILED,
    ),
    (
        "no manifest",
        Request::Put,
        &[None, Some(Fault::Nothing)],
        FAILED,
    ),
    (
        "403 of the manifest",
        Request::Put,
        &[None, Some(Fault::Refuse)],
        FAILED,
    ),
    (
        "403 when read back",
        Request::Get,
        &[None, None, Some(Fault::Refuse)],
        UNVERIFIED,
    ),
    (
        "reading back hangs",
        Request::Get,
        &[None, None, Some(Fault::Hang)],
        UNVERIFIED,
    ),
    (
        "read back with one bit",
        Request::Get,
        &[None, None, Some(Fault::Flip)],
        UNVERIFIED,
    ),
];

/// Of an object of several parts.
const LARGE: &[Case] = &[
    (
        "a bit of a part",
        Request::Part,
        &[None, Some(Fault::Flip)],
        UNVERIFIED,
    ),
    (
        "a part that hangs",
        Request::Part,
        &[None, Some(Fault::Hang)],
        FAILED,
    ),
    (
        "a lost end",
        Request::Complete,
        &[Some(Fault::FailAfter)],
        FAILED,
    ),
    (
        "no end",
        Request::Complete,
        &[Some(Fault::Nothing)],
        UNVERIFIED,
    ),
];

async fn all(cases: &[Case], kilobytes: u32) {
    let (house, mut night) = Night::new(&[]).await;
    house.admin.batch_execute(&noise(kilobytes)).await.unwrap();
    let faulty = night.faulty(&house);
    night.make().await.unwrap();
    for (name, request, faults, key) in cases {
        night.next_night();
        faulty.next(*request, faults.iter().copied());
        let before = faulty.faults();
        let error = night.make().await.unwrap_err();
        assert!(faulty.faults() > before, "{name}: {error:?}");
        faulty.heal();
        night.nothing_is_half_stored(&house.first).await;
        let told = night.is_told(key).await;
        let detail = told["alert"]["detail"].as_str().unwrap();
        assert!(detail.contains(error.code()), "{name}: {error:?}, {detail}");
        night.is_made_good(key).await;
        let runs = night.nothing_is_half_stored(&house.first).await;
        let verified = runs.iter().filter(|run| run.slot_at == Some(night.slot));
        let verified = verified.filter(|run| run.state.as_str() == "verified");
        assert_eq!(verified.count(), 1, "{name}: {runs:?}");
    }
}

#[tokio::test]
async fn a_store_that_lies_refuses_or_hangs_is_found_out_and_told_in_time() {
    all(SMALL, 1).await;
}

#[tokio::test]
async fn so_is_one_that_does_it_with_parts() {
    all(LARGE, 9 * 1024).await;
}

#[tokio::test]
async fn what_happens_later_to_a_verified_object_is_found_told_in_time_and_over_when_it_is_put_back()
 {
    let (house, mut night) = Night::new(&[]).await;
    let made = night.make().await.unwrap();
    let (dump, manifest) = (house.file(made.key), house.file(made.key.manifest()));
    night.look().await;
    let cases: [(&PathBuf, Spoil, &str); 3] = [
        (&dump, Vec::clear, "backup_damaged"),
        (
            &dump,
            |bytes| bytes.truncate(bytes.len() - 1),
            "backup_damaged",
        ),
        (
            &dump,
            |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            },
            "backup_damaged",
        ),
    ];
    let put_back = async |night: &mut Night, key: &str| {
        // Whatever wrote it, it is believed when it was read.
        let backups = night.store.backups();
        backups.verify(made.id, &Progress::default()).await.unwrap();
        night.is_over(key).await;
    };
    for (file, spoil, key) in cases {
        let good = std::fs::read(file).unwrap();
        let mut bad = good.clone();
        spoil(&mut bad);
        std::fs::write(file, bad).unwrap();
        night.is_told(key).await;
        std::fs::write(file, good).unwrap();
        put_back(&mut night, key).await;
    }
    for (file, key) in [
        (&dump, "backup_object_missing"),
        (&manifest, "backup_manifest_missing"),
    ] {
        let aside = house.scratch.path().join("aside");
        std::fs::rename(file, &aside).unwrap();
        night.is_told(key).await;
        std::fs::copy(&aside, file).unwrap();
        put_back(&mut night, key).await;
    }
    // And what only reading finds is told, too.
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, "{}").unwrap();
    let backups = night.store.backups();
    let error = backups.verify(made.id, &Progress::default()).await;
    assert_eq!(error.unwrap_err().code(), "backup_damaged");
    night.is_told("backup_damaged").await;
    std::fs::write(&manifest, good).unwrap();
    put_back(&mut night, "backup_damaged").await;
}

#[tokio::test]
async fn what_is_gone_from_the_store_stands_for_nothing_in_pruning_and_the_second_copy_is_missed() {
    let (house, mut night) = Night::new(&[
        ("UTXOIQ_STORE_BACKUP__KEEP_DAILY", "1"),
        ("UTXOIQ_STORE_BACKUP__KEEP_WEEKLY", "0"),
        ("UTXOIQ_STORE_BACKUP_COPY__URL", "file://SECOND"),
    ])
    .await;
    let first = night.make().await.unwrap();
    night.next_night();
    let second = night.make().await.unwrap();
    let copy = house.second.path().join(second.key.to_string());
    let aside = house.scratch.path().join("aside");
    std::fs::rename(&copy, &aside).unwrap();
    night.is_told("backup_copy_gone").await;
    std::fs::rename(&aside, &copy).unwrap();
    night.is_over("backup_copy_gone").await;
    std::fs::remove_file(house.file(second.key)).unwrap();
    night.is_told("backup_object_missing").await;
    // Of what is left the first one is the newest.
    let kept = night.store.backups().prune(night.now(), ACTOR).await;
    assert!(kept.unwrap().iter().all(|one| one.verdict.keep));
    assert!(house.file(first.key).exists());
    // The second store is full, or refuses.
    night.next_night();
    let folder = house.second.path().join("backups");
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    night.make().await.unwrap_err();
    let told = night.is_told("backup_copy_missing").await;
    let detail = told["alert"]["detail"].as_str().unwrap();
    assert!(detail.contains("cold_store_unavailable"), "{detail}");
    std::fs::remove_file(&folder).unwrap();
    night.is_made_good("backup_copy_missing").await;
}

/// A file system of so many kilobytes in memory, for as long as this is there.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path, kilobytes: u32) -> Option<Self> {
        let options = format!("size={kilobytes}k");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .status();
        done.is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }

    fn resize(&self, kilobytes: u32) {
        let options = format!("remount,size={kilobytes}k");
        let done = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_in_time_and_nothing_is_left_on_it() {
    // One request, and parts of which the second does not fit.
    for (kilobytes, disk) in [(2 * 1024, 1024), (10 * 1024, 9 * 1024)] {
        let (house, mut night) = Night::new(&[]).await;
        house.admin.batch_execute(&noise(kilobytes)).await.unwrap();
        let Some(mounted) = SmallDisk::mount(house.first.path(), disk) else {
            eprintln!("SKIPPED: only root may mount a small disk");
            return;
        };
        let error = night.make().await.unwrap_err();
        assert_eq!(error.code(), "cold_store_unavailable", "{error:?}");
        assert!(House::files(&house.first).is_empty());
        night.is_told(FAILED).await;
        mounted.resize(64 * 1024);
        night.is_made_good(FAILED).await;
        assert_eq!(House::files(&house.first).len(), 2);
    }
}
