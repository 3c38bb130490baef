//! What Redis may hold under our keys: anything.

use serde_json::Value;

use super::{Cached, envelope, keeper};

/// The key that the inputs lie under.
const KEY: &str = "s:some insight";

/// Rubbish is no value; what is one is sealed and opened as the same. An input is tried as it is, and with its checksum made
/// right, since none is found by chance.
pub fn envelope(bytes: &[u8]) {
    let opened: Option<Cached<Value>> = envelope::open(KEY, bytes);
    assert!(opened.is_none_or(|cached| is_the_same(&cached)));
    let mut sealed = envelope::checksum(bytes).to_vec();
    sealed.extend_from_slice(bytes);
    let opened: Option<Cached<Value>> = envelope::open(KEY, &sealed);
    assert!(opened.is_none_or(|cached| is_the_same(&cached)));
}

fn is_the_same(cached: &Cached<Value>) -> bool {
    let sealed = envelope::seal(KEY, cached);
    let again: Option<Cached<Value>> = sealed.and_then(|sealed| envelope::open(KEY, &sealed));
    again.is_some_and(|again| again.value == cached.value && again.snapshot == cached.snapshot)
}

/// The head of a generation of values.
pub fn head(bytes: &[u8]) {
    if let Some((generation, cursor)) = keeper::parse_head(bytes) {
        let written = keeper::head_text(&generation, &cursor);
        assert_eq!(
            keeper::parse_head(written.as_bytes()),
            Some((generation, cursor))
        );
    }
}

/// Inputs to begin with: target, name, bytes.
#[cfg(test)]
pub(crate) fn seeds() -> [(&'static str, &'static str, Vec<u8>); 3] {
    let value = serde_json::json!({"a": [1, 2.5, null]});
    let cached = Cached::new(value, "5:9:7".parse().unwrap());
    let sealed = envelope::seal(KEY, &cached).unwrap();
    [
        ("cache_envelope", "value", sealed[8..].to_vec()),
        ("cache_envelope", "sealed", sealed),
        ("cache_head", "head", b"00112233aabbccdd|5:9:7|41".to_vec()),
    ]
}
