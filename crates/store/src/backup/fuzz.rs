//! What may lie in the backups' store under a manifest's key.

use super::{Manifest, manifest::FUZZED};
use crate::Kind;

/// Another one's bytes are no manifest; what is one is written and read as the same. Its seal is made right, since none is
/// found by chance.
pub fn manifest(bytes: &[u8]) {
    let read = |bytes: &[u8]| Manifest::read(FUZZED, bytes);
    match read(bytes) {
        Ok(manifest) => {
            let written = serde_json::to_vec(&manifest).unwrap_or_default();
            assert_eq!(read(&written).ok(), Some(manifest));
        }
        Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
    }
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        // However great its numbers are.
        let _ = manifest.rows();
        let manifest = manifest.sealed();
        let written = serde_json::to_vec(&manifest).unwrap_or_default();
        let again = read(&written);
        assert!(again.is_err() || again.ok() == Some(manifest));
    }
}

/// An input to begin with: target, name, bytes.
#[cfg(test)]
pub(crate) fn seeds() -> [(&'static str, &'static str, Vec<u8>); 1] {
    [("backup_manifest", "sealed", super::manifest::seed())]
}
