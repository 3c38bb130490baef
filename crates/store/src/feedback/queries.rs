//! The SQL of feedback. `f` is always a row of insight_feedback.

mod fold;
mod read;
mod stats;
mod write;

pub use fold::*;
pub use read::*;
pub use stats::*;
pub use write::*;

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The columns of an entry.
pub const ENTRY_COLUMNS: &[(&str, Type)] = &[
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
];

/// Every statement of feedback.
pub const ALL: &[&Statement] = &[&WRITE, &WITHDRAW, &READ_STATS, &DRIFT, &FOLD_PART];
