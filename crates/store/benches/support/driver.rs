//! Clients that repeat one operation as fast as they can.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::Options;

/// What one side did in one round.
pub struct Sample {
    /// Operations a second.
    pub rate: f64,
    /// How long each took, in microseconds.
    pub latencies: Histogram<u64>,
}

impl Sample {
    /// No operations yet.
    pub fn latencies() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
    }

    /// The latencies of so long a time.
    pub fn new(latencies: Histogram<u64>, measured: Duration) -> Self {
        Self {
            rate: latencies.len() as f64 / measured.as_secs_f64(),
            latencies,
        }
    }
}

/// Has every client repeat the operation, which is told the client's number and the turn, both from 0. What ends
/// within the measured time counts. An operation that fails should panic: that ends the measurement.
pub async fn drive<F, Fut>(options: &Options, operation: F) -> Sample
where
    F: Fn(usize, i64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let from = Instant::now() + options.warm_up;
    let until = from + options.measured;
    let mut clients = JoinSet::new();
    for client in 0..options.clients {
        let operation = operation.clone();
        clients.spawn(async move {
            let mut latencies = Sample::latencies();
            for turn in 0.. {
                let started = Instant::now();
                operation(client, turn).await;
                let ended = Instant::now();
                if ended > until {
                    break;
                }
                if ended > from {
                    latencies.saturating_record(microseconds(ended - started));
                }
            }
            latencies
        });
    }
    let mut all = Sample::latencies();
    for latencies in clients.join_all().await {
        all.add(latencies).expect("all histograms grow");
    }
    Sample::new(all, options.measured)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
