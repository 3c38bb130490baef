//! The SQL of feedback.

mod read;

use tokio_postgres::types::Type;

pub use read::*;

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
