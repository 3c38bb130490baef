//! The content digest: what the rows of an archive are, whatever file they lie in.
//!
//! The database computes the same bytes, so that what is in it can be compared with what an archive holds without moving it:
//!
//! * A row's bytes are those of `record_send(row(…))`: the number of columns (int4), and for each column the number of its type
//!   (int4), the length of its value (int4, -1 for null) and its value as in binary COPY. All numbers are big-endian.
//! * A group's digest is the SHA-256 of the bytes of its rows, in the order of the key. Of metrics a group is one series in one
//!   hour (UTC); of everything else each row is one.
//! * The content digest is the SHA-256 of the digests of all groups, in the order of the key.
//!
//! Groups let the database work with memory for one group and not for all rows.

use sha2::{Digest as _, Sha256};

use super::{Column, Dataset};
use crate::error::{Error, Result};

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

/// How many bytes are gathered before they are hashed: a call for each field would cost more than the hash.
const GATHERED: usize = 32 * 1024;

/// A key of a row: greater where the row comes later.
pub(super) type RowKey = i128;

/// Computes the content digest of rows, and refuses rows that are not in the order of their key.
pub(super) struct ContentDigest {
    dataset: Dataset,
    header: [u8; 4],
    last: Option<RowKey>,
    is_open: bool,
    group: Option<(i64, i64)>,
    gathered: Vec<u8>,
    rows: Sha256,
    groups: Sha256,
}

impl ContentDigest {
    pub fn new(dataset: Dataset) -> Self {
        let columns = i32::try_from(dataset.columns().len()).unwrap_or_default();
        Self {
            dataset,
            header: columns.to_be_bytes(),
            last: None,
            is_open: false,
            group: None,
            gathered: Vec::with_capacity(2 * GATHERED),
            rows: Sha256::new(),
            groups: Sha256::new(),
        }
    }

    /// Begins a row; all its fields follow.
    pub fn row(&mut self, key: RowKey) -> Result<()> {
        if self.last.is_some_and(|last| last >= key) {
            return Err(Error::internal(format!(
                "rows of {} are not in the order of their key, or come twice",
                self.dataset
            )));
        }
        self.last = Some(key);
        let group = match self.dataset {
            Dataset::Metrics => {
                let (series, at) = series_and_time(key);
                Some((series, at.div_euclid(HOUR)))
            }
            _ => None,
        };
        if group.is_none() || self.group != group {
            self.end_group();
            self.group = group;
        }
        self.is_open = true;
        self.gathered.extend_from_slice(&self.header);
        Ok(())
    }

    /// One field of the row: its value as in binary COPY.
    pub fn field(&mut self, column: &Column, value: Option<&[u8]>) {
        self.gathered
            .extend_from_slice(&column.kind.oid().to_be_bytes());
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.gathered.extend_from_slice(&length.to_be_bytes());
        self.gathered.extend_from_slice(value.unwrap_or_default());
        if self.gathered.len() >= GATHERED {
            self.rows.update(&self.gathered);
            self.gathered.clear();
        }
    }

    fn end_group(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        self.rows.update(&self.gathered);
        self.gathered.clear();
        self.groups.update(self.rows.finalize_reset());
    }

    /// The digest, in hexadecimal.
    pub fn finish(mut self) -> String {
        self.end_group();
        hex(&self.groups.finalize())
    }
}

/// The key of a sample.
pub(super) fn sample_key(series: i32, at: i64) -> RowKey {
    (RowKey::from(series) << 64) + RowKey::from(at)
}

fn series_and_time(key: RowKey) -> (i64, i64) {
    // The time is the low half, with its sign.
    #[allow(clippy::cast_possible_truncation)]
    let at = key as i64;
    let series = (key - RowKey::from(at)) >> 64;
    (i64::try_from(series).unwrap_or_default(), at)
}

/// The key of a row with a UUID: PostgreSQL compares its bytes.
pub(super) fn uuid_key(bytes: [u8; 16]) -> RowKey {
    RowKey::from_be_bytes(bytes) ^ RowKey::MIN
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_as_the_database_orders_them() {
        let samples = [
            (i32::MIN, i64::MIN),
            (-1, i64::MAX),
            (0, i64::MIN),
            (0, -1),
            (0, 0),
            (0, i64::MAX),
            (1, i64::MIN),
            (i32::MAX, i64::MAX),
        ];
        let keys: Vec<RowKey> = samples.map(|(s, t)| sample_key(s, t)).into();
        assert!(keys.is_sorted());
        for ((series, at), key) in samples.into_iter().zip(keys) {
            assert_eq!(series_and_time(key), (i64::from(series), at));
        }
        let mut ids = [[0; 16]; 3];
        ids[1][0] = 0x7f;
        ids[2][0] = 0x80;
        assert!(ids.map(uuid_key).is_sorted());
    }

    #[test]
    fn rows_out_of_order_are_refused() {
        let mut digest = ContentDigest::new(Dataset::FeedbackHistory);
        digest.row(5).unwrap();
        assert!(digest.row(5).is_err());
        assert!(digest.row(4).is_err());
    }
}
