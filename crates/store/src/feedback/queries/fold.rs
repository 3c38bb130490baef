//! The SQL of folding: a function of the database's, which may do what the role that calls it may not.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Moves at most $1 visible deltas of each kind into the folded counts, unless another fold is under way.
pub const FOLD_PART: Statement = Statement {
    name: "feedback.fold_part",
    sql: "select skipped, deltas, day_deltas from feedback_fold_part($1)",
    params: &[Type::INT8],
    columns: &[
        ("skipped", Type::BOOL),
        ("deltas", Type::INT8),
        ("day_deltas", Type::INT8),
    ],
};
