//! Free ports of 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};

/// A port of 127.0.0.1 that nothing listens on right now.
///
/// It is taken from below the range from which the kernel gives ports to outgoing connections (32768 and up, unless
/// configured otherwise), not by binding port 0, for two reasons. A server that is killed and restarted must find its
/// port free, and an outgoing connection could have been given it meanwhile. And a connection attempt to a closed port
/// *inside* that range can, by chance, be given this very port as its own and then connects to itself: the test that
/// expects "connection refused" sees success.
///
/// Between this call and the bind somebody else may take the port: callers try again with another.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = rand::random_range(15_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 15000 and 32000 on 127.0.0.1");
}
