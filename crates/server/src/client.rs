//! Where a request comes from.
//!
//! The address of the connection, unless `server.trusted_proxies` says that so many proxies of one's own stand before this
//! process: each of them adds the address of its client at the end of `X-Forwarded-For`, so that the client's is the one so far
//! from the right. What stands further left was sent by the client, and proves nothing.

use std::net::{IpAddr, SocketAddr};

use axum::http::{Extensions, HeaderMap};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the connection that a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The client's address; `None` where the request came over no connection.
pub(crate) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted_proxies: usize,
) -> Option<IpAddr> {
    let Peer(peer) = *extensions.get()?;
    let Some(place) = trusted_proxies.checked_sub(1) else {
        return Some(peer);
    };
    let forwarded = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or_default().rsplit(','))
        .nth(place)
        .and_then(read);
    // A request that did not come the usual way is its sender's.
    Some(forwarded.unwrap_or(peer))
}

/// An address, which some proxies send with a port.
fn read(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    text.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_client_is_so_far_from_the_right_as_there_are_proxies() {
        let mut extensions = Extensions::new();
        let read = |extensions: &Extensions, values: &[&'static str], proxies| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            address(extensions, &headers, proxies).map(|address| address.to_string())
        };
        assert_eq!(read(&extensions, &["1.1.1.1"], 1), None);
        extensions.insert(Peer([9, 9, 9, 9].into()));
        let is = |values: &[&'static str], proxies, expected: &str| {
            assert_eq!(
                read(&extensions, values, proxies).as_deref(),
                Some(expected),
                "{values:?}"
            );
        };
        is(&["6.6.6.6, 1.1.1.1, 2.2.2.2"], 0, "9.9.9.9");
        is(&["6.6.6.6, 1.1.1.1, 2.2.2.2"], 1, "2.2.2.2");
        is(&["6.6.6.6, 1.1.1.1, 2.2.2.2"], 2, "1.1.1.1");
        is(&["6.6.6.6,1.1.1.1", "2.2.2.2"], 2, "1.1.1.1");
        is(&["1.1.1.1"], 2, "9.9.9.9");
        is(&["nonsense"], 1, "9.9.9.9");
        is(&["1.1.1.1:443"], 1, "1.1.1.1");
        is(&["[2001:db8::1]:443"], 1, "2001:db8::1");
    }
}
