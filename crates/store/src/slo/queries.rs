//! The SQL of the criteria. Each statement reads a bounded part of a table by an index of it, or the catalogue.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Every statement of the criteria.
pub const ALL: &[&Statement] = &[&TASKS];

/// The tasks that a criterion is about, with their last slots by schedule.
pub(super) const TASKS: Statement = Statement {
    name: "slo.tasks",
    sql: "select t.task, t.cadence, t.first_seen_at, t.enabled,
                 n.slot_at, n.state, n.started_at, n.finished_at, n.error,
                 s.slot_at as succeeded_slot_at, s.finished_at as succeeded_at
          from schedule_tasks t
          left join lateral (
              select slot_at, state, started_at, finished_at, error from schedule_slots
              where task = t.task and not on_demand order by slot_at desc limit 1
          ) n on true
          left join lateral (
              select slot_at, finished_at from schedule_slots
              where task = t.task and state = 'succeeded' order by slot_at desc limit 1
          ) s on true
          where t.task = any ($1)",
    params: &[Type::TEXT_ARRAY],
    columns: &[
        ("task", Type::TEXT),
        ("cadence", Type::TEXT),
        ("first_seen_at", Type::TIMESTAMPTZ),
        ("enabled", Type::BOOL),
        ("slot_at", Type::TIMESTAMPTZ),
        ("state", Type::TEXT),
        ("started_at", Type::TIMESTAMPTZ),
        ("finished_at", Type::TIMESTAMPTZ),
        ("error", Type::TEXT),
        ("succeeded_slot_at", Type::TIMESTAMPTZ),
        ("succeeded_at", Type::TIMESTAMPTZ),
    ],
};
