//! Every key of the store is made, and read, here.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use object_store::path::Path;
use uuid::Uuid;

use super::Dataset;

/// An object in the store.
///
/// ```text
/// <dataset>/day=YYYY-MM-DD/part-NNNN-<archive's id, 32 digits>.parquet    an archive
/// <dataset>/day=YYYY-MM-DD/part-NNNN-<archive's id, 32 digits>.json       its manifest
/// ```
///
/// `day=` is what BigQuery, DuckDB and Spark read as a column. Every attempt has an id, and so a key, of its own: no object is
/// ever written twice, and what an attempt left behind is told from what was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKey {
    /// The Parquet object of an archive.
    Archive(ArchiveKey),
    /// The manifest beside it.
    Manifest(ArchiveKey),
}

/// What names an object: its text is the path below the store's prefix.
pub trait Key: Copy + fmt::Display + Send + Sync + 'static {}

impl Key for ObjectKey {}
impl Key for BackupKey {}

/// Where an object lies below a prefix.
pub(super) fn below(key: impl Key, prefix: &Path) -> Path {
    let path = key.to_string();
    path.split('/').fold(prefix.clone(), Path::join)
}

/// An object of a backup.
///
/// ```text
/// backups/YYYYMMDDTHHMMSSZ-<the run's id, 32 digits>.dump.age    the dump: pg_dump's custom format, zstd, age
/// backups/YYYYMMDDTHHMMSSZ-<the run's id, 32 digits>.json        its manifest, written last
/// ```
///
/// Names sort by the time that the run began at. A run that is repeated has another id: nothing is ever written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupKey {
    /// When the run began, to the second.
    pub started_at: DateTime<Utc>,
    /// The run's id.
    pub id: Uuid,
    /// Whether it is the manifest.
    pub is_manifest: bool,
}

impl BackupKey {
    /// Below which backups lie.
    pub(super) const FOLDER: &'static str = "backups";

    /// The form of the time.
    const TIME: &'static str = "%Y%m%dT%H%M%SZ";

    /// The key of a run's dump.
    pub fn dump(started_at: DateTime<Utc>, id: Uuid) -> Self {
        Self {
            started_at: DateTime::from_timestamp(started_at.timestamp(), 0).unwrap_or(started_at),
            id,
            is_manifest: false,
        }
    }

    /// The manifest that stands, or is, beside it.
    pub const fn manifest(self) -> Self {
        Self {
            is_manifest: true,
            ..self
        }
    }

    /// The dump that it is, or is about.
    pub const fn object(self) -> Self {
        Self {
            is_manifest: false,
            ..self
        }
    }

    /// The key of a path below the store's prefix; `None` for what is none of ours.
    pub fn parse(path: &str) -> Option<Self> {
        let (name, extension) = path.strip_prefix("backups/")?.split_once('.')?;
        let (time, id) = name.split_once('-')?;
        let key = Self {
            started_at: NaiveDateTime::parse_from_str(time, Self::TIME)
                .ok()?
                .and_utc(),
            id: Uuid::try_parse(id).ok()?,
            is_manifest: extension == "json",
        };
        // One spelling only.
        (key.to_string() == path).then_some(key)
    }
}

impl fmt::Display for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.started_at.format(Self::TIME);
        let extension = if self.is_manifest { "json" } else { "dump.age" };
        write!(f, "backups/{time}-{}.{extension}", self.id.simple())
    }
}

/// Which archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArchiveKey {
    /// Of which rows.
    pub dataset: Dataset,
    /// Of which day.
    pub day: NaiveDate,
    /// Which of the day's parts.
    pub part: u16,
    /// The archive's own id.
    pub id: Uuid,
}

impl ObjectKey {
    /// The key of an archive's Parquet object.
    pub const fn archive(dataset: Dataset, day: NaiveDate, part: u16, id: Uuid) -> Self {
        Self::Archive(ArchiveKey {
            dataset,
            day,
            part,
            id,
        })
    }

    /// The manifest that stands, or is, beside it.
    pub const fn manifest(self) -> Self {
        match self {
            Self::Archive(key) | Self::Manifest(key) => Self::Manifest(key),
        }
    }

    /// The Parquet object that it is, or is about.
    pub const fn object(self) -> Self {
        match self {
            Self::Archive(key) | Self::Manifest(key) => Self::Archive(key),
        }
    }

    /// Which archive it is about.
    pub const fn about(self) -> ArchiveKey {
        match self {
            Self::Archive(key) | Self::Manifest(key) => key,
        }
    }

    /// The key of a path below the store's prefix; `None` for what is none of ours.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let dataset = Dataset::from_name(parts.next()?)?;
        let day = parts.next()?.strip_prefix("day=")?;
        let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
        let (name, extension) = parts.next()?.split_once('.')?;
        let (part, id) = name.strip_prefix("part-")?.split_once('-')?;
        let key = ArchiveKey {
            dataset,
            day,
            part: part.parse().ok()?,
            id: Uuid::try_parse(id).ok()?,
        };
        let key = match extension {
            "parquet" => Self::Archive(key),
            "json" => Self::Manifest(key),
            _ => return None,
        };
        // One spelling only: whatever else would be read as a key is not one.
        (parts.next().is_none() && key.to_string() == path).then_some(key)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArchiveKey {
            dataset,
            day,
            part,
            id,
        } = self.about();
        let extension = match self {
            Self::Archive(_) => "parquet",
            Self::Manifest(_) => "json",
        };
        write!(
            f,
            "{dataset}/day={}/part-{part:04}-{}.{extension}",
            day.format("%Y-%m-%d"),
            id.simple()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_key_is_read_back_from_its_path_and_nothing_else_is_one() {
        let started_at = DateTime::from_timestamp(1_790_000_000, 999_999_999).unwrap();
        let key = BackupKey::dump(started_at, Uuid::from_u128(77));
        for key in [key, key.manifest()] {
            assert_eq!(BackupKey::parse(&key.to_string()), Some(key));
            assert_eq!(
                key.object(),
                BackupKey::dump(started_at, Uuid::from_u128(77))
            );
        }
        let good = "backups/20260921T141320Z-0000000000000000000000000000004d.dump.age";
        assert_eq!(key.to_string(), good);
        for bad in [
            "",
            "backups/",
            "backup/20260921T141320Z-0000000000000000000000000000004d.dump.age",
            "backups/20260921T141320Z-0000000000000000000000000000004D.dump.age",
            "backups/20260921T141320-0000000000000000000000000000004d.dump.age",
            "backups/20261321T133320Z-0000000000000000000000000000004d.dump.age",
            "backups/20260921T141320Z-0000000000000000000000000000004d.dump",
            "backups/20260921T141320Z-0000000000000000000000000000004d.dump.age/x",
            "x/backups/20260921T141320Z-0000000000000000000000000000004d.json",
        ] {
            assert_eq!(BackupKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_read_back_from_its_path_and_nothing_else_is_one() {
        let day = NaiveDate::from_ymd_opt(2026, 8, 1).unwrap();
        for dataset in Dataset::ALL {
            for part in [0, 7, 12_345] {
                let key = ObjectKey::archive(dataset, day, part, Uuid::from_u128(77));
                for key in [key, key.manifest()] {
                    assert_eq!(ObjectKey::parse(&key.to_string()), Some(key));
                }
                assert_eq!(key.manifest().object(), key);
            }
        }
        let good = "metrics/day=2026-08-01/part-0000-0000000000000000000000000000004d.parquet";
        assert!(ObjectKey::parse(good).is_some());
        for bad in [
            "",
            "metrics",
            "metric/day=2026-08-01/part-0000-0000000000000000000000000000004d.parquet",
            "metrics/day=2026-8-1/part-0000-0000000000000000000000000000004d.parquet",
            "metrics/day=2026-02-30/part-0000-0000000000000000000000000000004d.parquet",
            "metrics/day=2026-08-01/part-0-0000000000000000000000000000004d.parquet",
            "metrics/day=2026-08-01/part-0000-0000000000000000000000000000004D.parquet",
            "metrics/day=2026-08-01/part-0000-00000000-0000-0000-0000-00000000004d.parquet",
            "metrics/day=2026-08-01/part-0000-0000000000000000000000000000004d.csv",
            "metrics/day=2026-08-01/part-0000-0000000000000000000000000000004d.parquet/x",
            "x/metrics/day=2026-08-01/part-0000-0000000000000000000000000000004d.parquet",
        ] {
            assert_eq!(ObjectKey::parse(bad), None, "{bad}");
        }
    }
}
