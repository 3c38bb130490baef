//! A bar while a run goes on.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{sync::mpsc, task::JoinHandle};
use utxoiq_store::retention::{Action, Event};

use crate::output::note;

/// What shows a run's events.
pub struct Progress(JoinHandle<()>);

impl Progress {
    /// Waits until the last event is shown.
    pub async fn finish(self) {
        let _ = self.0.await;
    }
}

/// Shows events as they come; ends when their sender is dropped.
pub fn start() -> (mpsc::UnboundedSender<Event>, Progress) {
    let (sender, mut events) = mpsc::unbounded_channel();
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let showing = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Planned(plan) => {
                    let steps = plan.steps.iter().filter(|step| step.action != Action::Keep);
                    bar.set_length(steps.count() as u64);
                }
                Event::Began {
                    dataset,
                    day,
                    doing,
                } => bar.set_message(format!("{} of {day}: {doing}", dataset.name())),
                Event::Done(_) => {
                    bar.inc(1);
                    // What was not planned has no length.
                    if bar.length() < Some(bar.position()) {
                        bar.set_length(bar.position());
                    }
                }
                Event::Failed(failure) => {
                    let day = failure
                        .day
                        .map_or_else(String::new, |day| format!(" of {day}"));
                    bar.suspend(|| {
                        note(format!(
                            "{} of {}{day} failed: {}",
                            failure.step, failure.dataset, failure.message
                        ));
                    });
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
    });
    (sender, Progress(showing))
}
