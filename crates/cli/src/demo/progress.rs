//! What is seen while it works: a bar on a terminal, a line a step elsewhere.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::note;

/// Where steps are shown.
pub struct Progress(());

/// One step.
pub struct Step {
    bar: ProgressBar,
    what: &'static str,
    started: Instant,
}

impl Progress {
    pub fn new() -> Self {
        Self(())
    }

    /// Begins a step of so many parts.
    pub fn begin(&self, what: &'static str, parts: u64) -> Step {
        let Self(()) = self;
        let bar = ProgressBar::with_draw_target(Some(parts), ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:20} {bar:30} {pos}/{len} {elapsed} {msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        if bar.is_hidden() {
            note(format_args!("{what} …"));
        }
        Step {
            bar,
            what,
            started: Instant::now(),
        }
    }
}

impl Step {
    /// A part more is done.
    pub fn done(&self, told: impl Into<std::borrow::Cow<'static, str>>) {
        self.bar.set_message(told);
        self.bar.inc(1);
    }

    /// It is over, and came to this.
    pub fn finish(self, told: impl std::fmt::Display) {
        let is_hidden = self.bar.is_hidden();
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let line = format!("{}: {told} ({seconds:.1} s)", self.what);
        if is_hidden {
            note(format_args!("  {line}"));
        } else {
            note(line);
        }
    }
}
