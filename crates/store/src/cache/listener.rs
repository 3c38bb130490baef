//! What the keeper knows of a space, whatever the type of its values.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use super::{
    Key, Stale,
    figures::Counters,
    space::{Inner, lock},
    wire::Wire,
};

/// A wire with the prefix under which this process reads and writes now.
#[derive(Clone)]
pub(super) struct Attached {
    pub wire: Arc<Wire>,
    pub prefix: Arc<str>,
}

/// A key's names in Redis.
pub(super) struct Names {
    pub value: String,
    pub lease: String,
}

impl Names {
    pub fn of<K: Key>(prefix: &str, key: &K) -> Self {
        let (kind, text) = (K::KIND.as_str(), key.text());
        Self {
            value: format!("{prefix}:v:{kind}:{text}"),
            lease: format!("{prefix}:l:{kind}:{text}"),
        }
    }
}

/// What the keeper does with every space, whatever its type.
pub(super) trait Listener: Send + Sync {
    /// Which of its keys a change concerns.
    fn concerns(&self, kind: &str, key: Option<&str>) -> Heard;
    /// Lets go of what a change concerns.
    fn hear(&self, kind: &str, key: Option<&str>);
    /// The names in Redis of what a change concerns.
    fn names(&self, prefix: &str, kind: &str, key: &str, into: &mut Vec<String>);
    /// Lets go of everything.
    fn forget_all(&self);
    /// Every round up to this one has reached Redis.
    fn settle(&self, round: u64);
    /// The counters.
    fn counters(&self) -> &Counters;
}

/// Whether a change concerned a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It did not.
    Nothing,
    /// Some of its keys.
    Keys,
    /// All of its keys.
    All,
}

impl<K: Key> Listener for Inner<K> {
    fn concerns(&self, kind: &str, key: Option<&str>) -> Heard {
        match K::stale(kind, key) {
            Stale::Nothing => Heard::Nothing,
            Stale::All => Heard::All,
            Stale::Keys(_) => Heard::Keys,
        }
    }

    fn hear(&self, kind: &str, key: Option<&str>) {
        match K::stale(kind, key) {
            Stale::Nothing => {}
            Stale::All => self.forget_all(),
            Stale::Keys(keys) => {
                for key in &keys {
                    self.forget(key);
                }
            }
        }
    }

    fn names(&self, prefix: &str, kind: &str, key: &str, into: &mut Vec<String>) {
        if let Stale::Keys(keys) = K::stale(kind, Some(key)) {
            for key in &keys {
                let names = Names::of(prefix, key);
                into.extend([names.value, names.lease]);
            }
        }
    }

    fn forget_all(&self) {
        // Whatever carries the old number is not served from here on, whenever it was inserted.
        self.epoch.fetch_add(1, SeqCst);
        self.local.invalidate_all();
    }

    fn settle(&self, round: u64) {
        lock(&self.written).retain(|_, until| *until > round);
        self.settled.fetch_max(round, SeqCst);
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
