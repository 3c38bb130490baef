//! The SQL that reads feedback.
//!
//! Plans are kept for all parameters (the sessions' `plan_cache_mode`), so that none may depend on how common a value is. A
//! list leaves the planner one index: the column that the index begins with is compared with `= any(array[$n])` and
//! repeated in the order. To the planner that is no constant, so that only an index which begins with this column gives the
//! order asked for; to the index it is an equality, so that what follows bounds the scan, as a cursor needs it.
//! Conditions that may be absent stand in a `case`, whose share of rows the planner takes for a half: estimated one by one,
//! they promise so few rows that sorting everything looks cheap.
//!
//! Where a statement reads entries and counts, the entries stand first, as TRUNCATE locks them first.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The columns of an entry in a row `e`.
macro_rules! entry_columns {
    () => {
        "e.id, e.insight_id, e.user_id, e.rating, e.rated_at, e.comment, e.commented_at, e.flag_type, e.flag_reason,
         e.flagged_at, e.created_at, e.updated_at"
    };
}

/// Below which transaction every delta is folded; those that a dead index entry leads to are skipped by it. Of no use on
/// another cluster than that which it was noted on: transactions are numbered anew there.
macro_rules! folded_below {
    ($column:literal) => {
        concat!(
            "coalesce((select case when f.system_identifier = (select c.system_identifier from pg_control_system() c)
                                   then f.",
            $column,
            " end from feedback_fold f), '0')"
        )
    };
}

mod export;
mod lists;
mod ranking;
mod review;
mod search;
mod trend;

pub use export::*;
pub use lists::*;
pub use ranking::*;
pub use review::*;
pub use search::*;
pub use trend::*;

/// The columns of a page of entries; with an empty page all but the total are null.
const FOUND_COLUMNS: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("insight_id", Type::TEXT),
    ("user_id", Type::TEXT),
    ("rating", Type::INT2),
    ("rated_at", Type::TIMESTAMPTZ),
    ("comment", Type::TEXT),
    ("commented_at", Type::TIMESTAMPTZ),
    ("flag_type", Type::TEXT),
    ("flag_reason", Type::TEXT),
    ("flagged_at", Type::TIMESTAMPTZ),
    ("created_at", Type::TIMESTAMPTZ),
    ("updated_at", Type::TIMESTAMPTZ),
    ("total", Type::INT8),
];

/// Every statement that reads.
pub const READ: &[&Statement] = &[
    &SEARCH_ONE,
    &SEARCH_USER,
    &SEARCH_INSIGHT_FLAGGED,
    &SEARCH_INSIGHT_COMMENTED,
    &SEARCH_INSIGHT_RATING,
    &SEARCH_INSIGHT,
    &SEARCH_FLAG_TYPE,
    &SEARCH_FLAGGED,
    &SEARCH_COMMENTED,
    &SEARCH_RATING,
    &SEARCH_TIME,
    &COMMENTS,
    &HISTORY,
    &FLAGGED,
    &TOP_BY_BAYESIAN_MEAN,
    &TOP_BY_LOWER_BOUND,
    &BOTTOM_BY_BAYESIAN_MEAN,
    &TREND_OF_INSIGHT,
    &TREND_OVERALL,
    &LOCK_EXPORT,
    &SET_EXPORT,
    &DECLARE_EXPORT,
    &COUNT_EXPORT,
    &REWIND_EXPORT,
    &FETCH_EXPORT,
];
