//! What clients do that mean no good, or are broken: the service's memory stays bounded, and others are served.
//!
//! One service takes all of it, attack after attack, while a witness goes on making ordinary requests over connections of its
//! own. Every attack says what it wants to see of its own requests; the witness must be answered each time.

mod attacks;
mod witness;

use std::{fs, time::Duration};

use crate::support::Service;

/// What the process may take at most, in bytes. Ten thousand connections with what they have sent, the bodies' share
/// (`server.max_body_memory_bytes`), a few bodies being parsed, and the process itself.
const MOST_MEMORY: u64 = 900 << 20;

/// The most memory that a process has taken, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| {
        let kilobytes = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        kilobytes.parse::<u64>().ok()
    });
    peak.unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_clients_send_memory_is_bounded_and_others_are_served() {
    let service = Service::start(&[("SERVER__BODY_TIMEOUT_SECONDS", "5")]).await;
    let target = attacks::Target::of(&service);
    let pid = service.server().pid();
    let mut told = Vec::new();
    for (name, attack) in attacks::all(&target) {
        let witness = witness::Witness::begin(&service);
        let began = std::time::Instant::now();
        tokio::time::timeout(Duration::from_mins(2), attack)
            .await
            .unwrap_or_else(|_| panic!("{name} does not end"));
        let seen = witness.end().await;
        let peak = peak_memory(pid);
        told.push(format!(
            "{name}: {:.1} s, {} others answered, the slowest after {:?}, peak {} MB",
            began.elapsed().as_secs_f64(),
            seen.answered,
            seen.slowest,
            peak >> 20
        ));
        assert_eq!(seen.failures, Vec::<String>::new(), "{told:#?}");
        assert!(seen.answered > 0, "{told:#?}");
        assert!(peak < MOST_MEMORY, "{told:#?}");
    }
    println!("{told:#?}");
}
