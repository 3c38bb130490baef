//! How a value lies in Redis: with its key, the snapshot it was read in, and a checksum.
//!
//! Whatever else is found under a key (rubbish, a value cut short, a value of another key) is no value.

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{Cached, FORMAT};
use crate::db::Snapshot;

const CHECKSUM_BYTES: usize = 8;

pub(super) fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::digest(body);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    sum
}

/// The bytes that go into Redis; `None` for a value that cannot be written as JSON.
pub(super) fn seal<V: Serialize>(key: &str, cached: &Cached<V>) -> Option<Vec<u8>> {
    let snapshot = cached.snapshot.to_string();
    let body = serde_json::to_vec(&(FORMAT, key, snapshot, &cached.value)).ok()?;
    let mut bytes = checksum(&body).to_vec();
    bytes.extend_from_slice(&body);
    Some(bytes)
}

/// What was stored under this key; `None` for anything else.
pub(super) fn open<V: DeserializeOwned>(key: &str, bytes: &[u8]) -> Option<Cached<V>> {
    let (sum, body) = bytes.split_at_checked(CHECKSUM_BYTES)?;
    if sum != checksum(body) {
        return None;
    }
    let (version, its_key, snapshot, value): (u32, String, String, V) =
        serde_json::from_slice(body).ok()?;
    let snapshot: Snapshot = snapshot.parse().ok()?;
    (version == FORMAT && its_key == key).then(|| Cached::new(value, snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_value_of_this_key_is_read_back() {
        let cached = Cached::new(vec![1, 2, 3], "5:9:7".parse().unwrap());
        let sealed = seal("a", &cached).unwrap();
        let opened: Cached<Vec<i32>> = open("a", &sealed).unwrap();
        assert_eq!(opened.value, [1, 2, 3]);
        assert_eq!(opened.snapshot, cached.snapshot);
        assert!(open::<Vec<i32>>("b", &sealed).is_none());
        assert!(open::<Vec<String>>("a", &sealed).is_none());
        for cut in 0..sealed.len() {
            assert!(open::<Vec<i32>>("a", &sealed[..cut]).is_none());
        }
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open::<Vec<i32>>("a", &damaged).is_none());
        }
        assert!(open::<Vec<i32>>("a", b"").is_none());
    }
}
