//! Whether a host is this machine: what is said to it leaves nothing behind on a network.

use std::net::IpAddr;

/// Whether nothing that is said to this host leaves the machine; an address of IPv6 may have brackets, as in a URL.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_this_machine() {
        for here in ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in [
            "",
            "localhost.example.com",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "fe80::1",
        ] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }
}
