//! Somebody who uses the service meanwhile.

use std::time::{Duration, Instant};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::support::Service;

/// How long an ordinary request may take while the service is attacked, in an unoptimised build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(8);

/// What the witness has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub answered: usize,
    pub slowest: Duration,
    pub failures: Vec<String>,
}

pub struct Witness {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<Seen>,
}

impl Witness {
    pub fn begin(service: &Service) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let url = service.url("/api/v1/monitoring/backfill/status?limit=1");
        let token = service.token().to_owned();
        let watching = tokio::spawn(async move {
            let mut seen = Seen::default();
            while stopped.try_recv().is_err() {
                // A new connection each time: whoever comes anew must get in, too.
                let client = reqwest::Client::builder()
                    .timeout(PATIENCE)
                    .build()
                    .unwrap();
                let began = Instant::now();
                match client.get(&url).bearer_auth(&token).send().await {
                    Ok(answer) if answer.status() == 200 => seen.answered += 1,
                    Ok(answer) => seen.failures.push(answer.status().to_string()),
                    Err(error) => seen.failures.push(format!("{error:?}")),
                }
                seen.slowest = seen.slowest.max(began.elapsed());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            seen
        });
        Self { stop, watching }
    }

    pub async fn end(self) -> Seen {
        self.stop.send(()).unwrap();
        self.watching.await.unwrap()
    }
}
