//! Steps that take locks for a moment only: what is queued for a lock holds up everybody behind it, so each gives up soon and is
//! tried again.

use std::time::Duration;

use rand::RngExt as _;
use tokio_postgres::error::SqlState;

use super::refused;
use crate::error::{Error, Result};

/// The pause between two tries, in milliseconds: those who read meanwhile are to get through.
const PAUSE: std::ops::Range<u64> = 100..400;

/// Runs a step of the database again and again while somebody else holds its locks; fails with the last refusal after so many
/// tries.
pub(super) async fn while_locked<Done>(attempts: u32, step: impl Fn() -> Done) -> Result<()>
where
    Done: Future<Output = Result<()>>,
{
    let mut attempt = 1;
    loop {
        match step().await.map_err(refused) {
            Err(error) if is_locked(&error) && attempt < attempts => {
                attempt += 1;
                let pause = rand::rng().random_range(PAUSE);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            done => return done,
        }
    }
}

/// Whether it failed because somebody else held a lock.
pub(super) fn is_locked(error: &Error) -> bool {
    matches!(
        error.sql_state(),
        Some(&(SqlState::LOCK_NOT_AVAILABLE | SqlState::T_R_DEADLOCK_DETECTED))
    )
}
