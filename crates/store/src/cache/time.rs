//! The clock of freshness: milliseconds that also pass while the machine sleeps.
//!
//! `std::time::Instant` stands still while the machine is suspended; a value that was fresh before would seem so after.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started.
pub(super) fn millis() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds * 1_000 + nanos / 1_000_000
}
