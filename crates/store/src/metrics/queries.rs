//! The SQL of metrics.

mod days;
mod read;
mod series;
mod write;

pub use days::*;
pub use read::*;
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
];
