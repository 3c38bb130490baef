//! Every key of the store is made, and read, here.

use std::fmt;

use chrono::NaiveDate;
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

    /// Where it lies below a prefix.
    pub(super) fn below(self, prefix: &Path) -> Path {
        let path = self.to_string();
        path.split('/').fold(prefix.clone(), Path::join)
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
