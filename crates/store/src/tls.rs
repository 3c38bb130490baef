//! The cryptography of this process, and what it says where there is none.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// The HTTP client of this build brings no cryptography of its own, and cannot be made before the process has chosen one;
/// another part of it may have done that before.
pub fn use_ring() {
    // Refused where there is one: then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whether this is the first time that it is asked: many pools and sessions of a process lead to one place, and one warning
/// of it is enough.
pub(crate) fn is_first_of(place: String) -> bool {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    TOLD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(place)
}
