//! The scheduled tasks, in one table: what runs, when, and which criterion asks for it.
//!
//! The schedule itself ([`crate::schedule`]) knows no task by name, and the slices know no schedule; they meet here.

use crate::{Store, schedule::Task};

/// Every scheduled task of the product. Each name is here once; removing a line ends the task, its history stays.
pub fn tasks(_store: &Store) -> Vec<Task> {
    Vec::new()
}
