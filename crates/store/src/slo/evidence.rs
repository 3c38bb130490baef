//! Reading what criteria are judged by.
//!
//! Each part is read by itself, within a time of its own: one that cannot be read is an error with a sentence, and the criteria that
//! need it say so.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{config::Config, db::Pool};

/// What was read, at one moment.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The moment.
    pub now: DateTime<Utc>,
    /// How far back what was measured is looked at.
    pub window: TimeDelta,
    /// The settings of the process that judges.
    pub config: Config,
}

impl Gathered {
    pub(super) async fn read(
        _pool: &Pool,
        config: &Config,
        now: DateTime<Utc>,
        window: TimeDelta,
    ) -> Self {
        Self {
            now,
            window,
            config: config.clone(),
        }
    }
}
