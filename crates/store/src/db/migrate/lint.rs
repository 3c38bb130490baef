//! placeholder
use super::{Migration, sql::Statement};
use crate::error::Result;
pub(super) fn refuse_unrunnable(_m: &[Migration]) -> Result<()> {
    Ok(())
}
pub(super) fn index_built_concurrently(_s: &Statement) -> Option<String> {
    None
}
