//! What may lie in the cold store, and what a database may answer to COPY.

use std::sync::{Arc, OnceLock};

use chrono::NaiveDate;
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    BackupKey, Dataset, Fetched, Manifest, ObjectKey, cache::Cache, columns, digest::ContentDigest,
};
use crate::{Kind, Result};

/// Room for the copies of all inputs, one after another.
const CACHE_BYTES: u64 = 1 << 26;

/// A key has one spelling.
pub fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(key) = ObjectKey::parse(text) {
        assert_eq!(key.to_string(), text);
        assert_eq!(
            ObjectKey::parse(&key.manifest().to_string()),
            Some(key.manifest())
        );
    }
    if let Some(key) = BackupKey::parse(text) {
        assert_eq!(key.to_string(), text);
        assert_eq!(
            BackupKey::parse(&key.object().to_string()),
            Some(key.object())
        );
    }
}

/// The key of what is tried, of some dataset.
fn key(dataset: Dataset) -> ObjectKey {
    let day = NaiveDate::from_ymd_opt(2026, 8, 1).unwrap_or_default();
    ObjectKey::archive(dataset, day, 0, Uuid::from_u128(77))
}

/// The dataset that the first byte chooses, and the rest.
fn chosen(bytes: &[u8]) -> Option<(Dataset, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let all = Dataset::ALL;
    Some((all[usize::from(*first) % all.len()], rest))
}

/// Another one's bytes are no manifest; what is one is written and read as the same. Its seal is made right, since none is
/// found by chance.
pub fn manifest(bytes: &[u8]) {
    let key = key(Dataset::Metrics);
    match Manifest::read(key, bytes) {
        Ok(manifest) => {
            let written = serde_json::to_vec(&manifest).unwrap_or_default();
            assert_eq!(Manifest::read(key, &written).ok(), Some(manifest));
        }
        Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
    }
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let manifest = manifest.sealed();
        let written = serde_json::to_vec(&manifest).unwrap_or_default();
        let again = Manifest::read(key, &written);
        assert!(again.is_err() || again.ok() == Some(manifest));
    }
}

/// Rows of COPY become columns, which are written as the same bytes: the first byte chooses the dataset, two say how long each
/// row is.
pub fn copy_rows(bytes: &[u8]) {
    let Some((dataset, mut rest)) = chosen(bytes) else {
        return;
    };
    let mut gathering = columns::Gathering::new(dataset, 8);
    let mut digest = ContentDigest::new(dataset);
    let mut taken = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (row, behind) = behind.split_at(length);
        rest = behind;
        if gathering.push(row, &mut digest).is_err() {
            // What a refused row has left in the columns is never taken.
            return;
        }
        taken.push(row);
    }
    let (rows, batch) = (gathering.rows(), gathering.take());
    assert_eq!(rows, taken.len());
    let Ok(batch) = batch else {
        panic!("rows that were taken are no batch");
    };
    let mut again = ContentDigest::new(dataset);
    assert!(columns::digest_rows(&mut again, dataset, &batch).is_ok());
    assert_eq!(digest.finish(), again.finish(), "other rows came out");
}

/// A Parquet file, damaged in any way, is refused, or read to its end. The first byte chooses the dataset.
///
/// Only bytes whose hash was recorded are decoded, so this is the second line of defence. The decoder itself is not ours: where
/// it panics, the thread that it has of its own ends, and the reader is told that it broke off.
pub fn archive(bytes: &[u8]) {
    let Some((dataset, bytes)) = chosen(bytes) else {
        return;
    };
    let cache = cache();
    let read = std::panic::catch_unwind(|| read_to_its_end(cache, dataset, bytes));
    if let Ok(Err(error)) = read {
        let known = matches!(error.kind(), Kind::Unavailable | Kind::Internal);
        assert!(known, "{error}");
    }
}

/// Where the copies lie, for as long as the process lives.
fn cache() -> &'static Arc<Cache> {
    static PLACE: OnceLock<Option<(TempDir, Arc<Cache>)>> = OnceLock::new();
    let place = PLACE.get_or_init(|| {
        let folder = tempfile::tempdir().ok()?;
        let cache = Cache::open(&folder.path().join("copies"), CACHE_BYTES).ok()?;
        Some((folder, Arc::new(cache)))
    });
    match place {
        Some((_, cache)) => cache,
        None => panic!("there is no folder for the copies"),
    }
}

fn read_to_its_end(cache: &Arc<Cache>, dataset: Dataset, bytes: &[u8]) -> Result<()> {
    let fetched = Fetched::of_bytes(cache, key(dataset), bytes)?;
    let reader = fetched.reader().with_batch_size(1_024).build();
    let mut digest = ContentDigest::new(dataset);
    for batch in reader.map_err(|error| fetched.undecodable(error))? {
        let batch = batch.map_err(|error| fetched.undecodable(error))?;
        columns::digest_rows(&mut digest, dataset, &batch)?;
    }
    Ok(())
}

/// A row of binary COPY with a value in each column.
#[cfg(test)]
fn row(dataset: Dataset, number: i32) -> Vec<u8> {
    use super::{ColumnKind, Value};

    let mut row = Vec::new();
    for column in dataset.columns() {
        let value = match column.kind {
            ColumnKind::Int4 => Value::Int4(number),
            ColumnKind::Int8 => Value::Int8(number.into()),
            ColumnKind::Float8 => Value::Float8(0.5),
            ColumnKind::Time => Value::Time(1_790_000_000_000_000 + i64::from(number)),
            ColumnKind::Text => Value::Text("{}"),
            ColumnKind::Uuid => Value::Uuid(u128::try_from(number).unwrap().to_be_bytes()),
        };
        value.encode(&mut row);
    }
    row
}

#[cfg(test)]
fn parquet(dataset: Dataset) -> Vec<u8> {
    use super::{
        SeriesNames,
        encode::{Rows, encode},
        upload::Part,
    };

    let mut gathering = columns::Gathering::new(dataset, 8);
    let mut digest = ContentDigest::new(dataset);
    for number in 1..4 {
        gathering.push(&row(dataset, number), &mut digest).unwrap();
    }
    let (rows, taken) = tokio::sync::mpsc::channel(9);
    let (parts, mut made) = tokio::sync::mpsc::channel(9);
    rows.try_send(Rows::Batch(gathering.take().unwrap()))
        .ok()
        .unwrap();
    rows.try_send(Rows::End).ok().unwrap();
    let mut names = SeriesNames::new();
    for id in 1..4 {
        names.insert(id, "api", "cpu", "%", "{}");
    }
    encode(key(dataset), Some(&names), taken, parts)
        .unwrap()
        .unwrap();
    let mut bytes = Vec::new();
    while let Ok(Part::More(part) | Part::Last(part)) = made.try_recv() {
        bytes.extend_from_slice(&part);
    }
    bytes
}

/// Inputs to begin with: target, name, bytes.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (number, dataset) in Dataset::ALL.into_iter().enumerate() {
        let choice = u8::try_from(number).unwrap();
        let mut copied = vec![choice];
        for number in 1..4 {
            let row = row(dataset, number);
            copied.extend(u16::try_from(row.len()).unwrap().to_be_bytes());
            copied.extend(row);
        }
        seeds.push(("copy_rows", dataset.name(), copied));
        let mut archive = vec![choice];
        archive.extend(parquet(dataset));
        seeds.push(("archive", dataset.name(), archive));
        let key = key(dataset);
        seeds.push(("object_keys", dataset.name(), key.to_string().into_bytes()));
    }
    let dump = BackupKey::dump(chrono::DateTime::UNIX_EPOCH, Uuid::from_u128(77));
    seeds.push(("object_keys", "dump", dump.to_string().into_bytes()));
    let written = super::Written {
        rows: 3,
        bytes: 9,
        sha256: "00".into(),
        content: "11".into(),
        columns: vec![],
    };
    let head = super::AuditHead {
        sequence: 5,
        hash: "33".into(),
    };
    let manifest = Manifest::new(
        key(Dataset::Metrics),
        &written,
        12,
        Some(head),
        chrono::DateTime::UNIX_EPOCH,
    );
    let manifest = serde_json::to_vec(&manifest).unwrap();
    seeds.push(("archive_manifest", "sealed", manifest));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_is_read_to_its_end_where_it_is_whole() {
        for dataset in Dataset::ALL {
            read_to_its_end(cache(), dataset, &parquet(dataset)).unwrap();
        }
    }
}
