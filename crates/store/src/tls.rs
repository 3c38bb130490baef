//! The cryptography of this process.

/// The HTTP client of this build brings no cryptography of its own, and cannot be made before the process has chosen one;
/// another part of it may have done that before.
pub fn use_ring() {
    // Refused where there is one: then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
