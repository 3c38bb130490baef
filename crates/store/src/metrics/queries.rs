//! The SQL of metrics.

mod days;
mod read;
mod rollup;
mod series;
mod write;

pub use days::*;
pub use read::*;
pub use rollup::*;
pub use series::*;
pub use write::*;

use crate::db::Statement;

/// Every statement.
pub const ALL: &[&Statement] = &[
    &MAKE_DAY,
    &IDENTITY,
    &FIND_SERIES,
    &FIND_SERVICE,
    &MAKE_SERVICE,
    &MAKE_SERIES,
    &WORST_LABELS,
    &INSERT,
    &FIND_STORED,
    &FIND_REQUEST,
    &KEEP_REQUEST,
    &TRANSACTION,
    &LOAD_SERIES,
    &LOAD_HOURS,
    &NEWEST_OF_SERIES,
    &NEWEST_OF_SLICE,
    &COUNT_SLICE,
    &MATCH_SERIES,
    &SERIES_BY_ID,
    &LIST_SERVICES,
    &WORST_TYPES,
    &LOCK_STATE,
    &CLOSE_HOURS,
    &NOTE_CLOSED,
    &NOTE_ROLLED,
    &TAKE_MARKS,
    &MARK,
    &WRITE_ROLLUPS,
    &REMOVE_ROLLUPS,
    &READ_ROLLUPS,
    &READ_ALL_ROLLUPS,
    &SERIES_WITH_ROLLUPS,
    &READ_STATE,
    &BEGIN_VERIFYING,
    &END_VERIFYING,
    &READ_ALL_MARKS,
    &READ_MARKS,
    &LAST_SERIES,
    &UNVERIFIED_DAYS,
    &PRUNE_REQUESTS,
    &READ_FIGURES,
    &READ_STATISTIC,
    &TOP,
    &READ_EXTREMES,
    &READ_DAYS,
    &COUNT_DAYS,
    &READ_COLD_DAYS,
    &SERIES_IDS,
    &COUNT_OF_SERIES,
    &ACTIVE_ARCHIVES,
    &COUNT_BY_ROLLUPS,
];
