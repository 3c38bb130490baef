//! A line while a backup or a restore goes on.

use std::{sync::Arc, time::Duration};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use utxoiq_store::backup::Progress;

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);

/// What is shown.
pub struct Shown {
    /// To be given to what works.
    pub progress: Arc<Progress>,
    bar: ProgressBar,
    drawing: JoinHandle<()>,
}

impl Shown {
    /// Clears the line.
    pub fn finish(self) {
        self.drawing.abort();
        self.bar.finish_and_clear();
    }
}

/// Shows what is done until it is finished; nothing where standard error is no terminal.
pub fn start() -> Shown {
    let progress = Arc::new(Progress::default());
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let (watched, line) = (Arc::clone(&progress), bar.clone());
    let drawing = tokio::spawn(async move {
        loop {
            line.set_message(text(&watched));
            line.tick();
            tokio::time::sleep(EVERY).await;
        }
    });
    Shown {
        progress,
        bar,
        drawing,
    }
}

fn text(progress: &Progress) -> String {
    let (step, done, total) = (progress.step(), progress.done(), progress.total());
    let tables = match progress.tables() {
        0 => String::new(),
        tables => format!(", {tables} tables compared"),
    };
    match (done, total) {
        (0, 0) => format!("{step}{tables}"),
        // Few of something, or bytes.
        (done, total) if total < 100_000 && total > 0 => {
            format!("{step}: {done} of {total}{tables}")
        }
        (done, 0) => format!("{step}: {}{tables}", HumanBytes(done)),
        (done, total) => format!(
            "{step}: {} of {}{tables}",
            HumanBytes(done),
            HumanBytes(total)
        ),
    }
}
