//! The schedule's SQL.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Every statement of the schedule.
pub const ALL: &[&Statement] = &[
    &REGISTER,
    &LOAD,
    &LOCK_TASK,
    &NEXT_EPOCH,
    &LOCK_SLOT,
    &VACATE,
    &START,
    &START_AGAIN,
    &HEARTBEAT,
    &RELEASE,
    &SUCCEED,
    &FAIL,
    &FENCE,
    &LAST,
    &HISTORY,
    &PRUNE,
];

/// In name order, so that two processes that register the same tasks do not deadlock.
pub(super) const REGISTER: Statement = Statement {
    name: "schedule.register",
    sql: "INSERT INTO schedule_tasks (task, cadence, first_seen_at)
          SELECT task, cadence, $3 FROM unnest($1, $2) AS known (task, cadence) ORDER BY task
          ON CONFLICT (task) DO UPDATE SET cadence = excluded.cadence
          WHERE schedule_tasks.cadence <> excluded.cadence",
    params: &[Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::TIMESTAMPTZ],
    columns: &[],
};

/// All that deciding needs: the running slot, the newest scheduled one, and the last that succeeded.
pub(super) const LOAD: Statement = Statement {
    name: "schedule.load",
    sql: "SELECT t.task, t.cadence, t.first_seen_at, t.enabled,
                 r.id AS running_id, r.slot_at AS running_slot_at, r.on_demand AS running_on_demand,
                 r.epoch AS running_epoch, r.attempts AS running_attempts, r.missed AS running_missed,
                 r.lease_expires_at,
                 n.id AS newest_id, n.slot_at AS newest_slot_at, n.epoch AS newest_epoch,
                 n.attempts AS newest_attempts, n.missed AS newest_missed, n.retry_at,
                 s.slot_at AS succeeded_slot_at
          FROM schedule_tasks t
          LEFT JOIN schedule_slots r ON r.task = t.task AND r.state = 'running'
          LEFT JOIN LATERAL (
              SELECT id, slot_at, epoch, attempts, missed, retry_at FROM schedule_slots
              WHERE task = t.task AND NOT on_demand ORDER BY slot_at DESC LIMIT 1
          ) n ON true
          LEFT JOIN LATERAL (
              SELECT slot_at FROM schedule_slots
              WHERE task = t.task AND NOT on_demand AND state = 'succeeded' ORDER BY slot_at DESC LIMIT 1
          ) s ON true
          WHERE t.task = ANY ($1)",
    params: &[Type::TEXT_ARRAY],
    columns: &[
        ("task", Type::TEXT),
        ("cadence", Type::TEXT),
        ("first_seen_at", Type::TIMESTAMPTZ),
        ("enabled", Type::BOOL),
        ("running_id", Type::INT8),
        ("running_slot_at", Type::TIMESTAMPTZ),
        ("running_on_demand", Type::BOOL),
        ("running_epoch", Type::INT8),
        ("running_attempts", Type::INT4),
        ("running_missed", Type::INT8),
        ("lease_expires_at", Type::TIMESTAMPTZ),
        ("newest_id", Type::INT8),
        ("newest_slot_at", Type::TIMESTAMPTZ),
        ("newest_epoch", Type::INT8),
        ("newest_attempts", Type::INT4),
        ("newest_missed", Type::INT8),
        ("retry_at", Type::TIMESTAMPTZ),
        ("succeeded_slot_at", Type::TIMESTAMPTZ),
    ],
};

/// One process at a time decides about a task.
pub(super) const LOCK_TASK: Statement = Statement {
    name: "schedule.lock_task",
    sql: "SELECT task FROM schedule_tasks WHERE task = $1 FOR UPDATE",
    params: &[Type::TEXT],
    columns: &[("task", Type::TEXT)],
};

pub(super) const NEXT_EPOCH: Statement = Statement {
    name: "schedule.next_epoch",
    sql: "UPDATE schedule_tasks SET epoch = epoch + 1 WHERE task = $1 RETURNING epoch",
    params: &[Type::TEXT],
    columns: &[("epoch", Type::INT8)],
};

/// Takes a slot away from its last claim, if it is still as it was when that was decided. FOR UPDATE conflicts with
/// the FOR KEY SHARE of a fence (a heartbeat's plain UPDATE does not); SKIP LOCKED leaves the slot to a later tick.
pub(super) const LOCK_SLOT: Statement = Statement {
    name: "schedule.lock_slot",
    sql: "SELECT id FROM schedule_slots
          WHERE id = $1 AND epoch = $2
            AND ((state = 'running' AND lease_expires_at <= $3) OR (state = 'failed' AND retry_at <= $3))
          FOR UPDATE SKIP LOCKED",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ],
    columns: &[("id", Type::INT8)],
};

/// The new epoch keeps the lost runner out.
pub(super) const VACATE: Statement = Statement {
    name: "schedule.vacate",
    sql: "UPDATE schedule_slots
          SET state = 'failed', epoch = $2, finished_at = greatest($3, started_at), lease_expires_at = NULL,
              retry_at = $4, error = $5
          WHERE id = $1",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[],
};

pub(super) const START: Statement = Statement {
    name: "schedule.start",
    sql: "INSERT INTO schedule_slots
              (task, slot_at, on_demand, missed, epoch, runner, started_at, heartbeat_at, lease_expires_at, state, attempts)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, 'running', 1)
          RETURNING id",
    params: &[
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::BOOL,
        Type::INT8,
        Type::INT8,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: &[("id", Type::INT8)],
};

/// Another attempt at a slot that failed, or whose runner was lost: then the error says so.
pub(super) const START_AGAIN: Statement = Statement {
    name: "schedule.start_again",
    sql: "UPDATE schedule_slots
          SET state = 'running', attempts = attempts + 1, epoch = $2, runner = $3,
              started_at = $4, heartbeat_at = $4, lease_expires_at = $5, finished_at = NULL, retry_at = NULL,
              error = coalesce($6, error)
          WHERE id = $1",
    params: &[
        Type::INT8,
        Type::INT8,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[],
};

pub(super) const HEARTBEAT: Statement = Statement {
    name: "schedule.heartbeat",
    sql: "UPDATE schedule_slots SET heartbeat_at = $3, lease_expires_at = $4
          WHERE id = $1 AND epoch = $2 AND state = 'running'",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[],
};

/// A runner that stops in good order ends its lease, so that another need not wait for it.
pub(super) const RELEASE: Statement = Statement {
    name: "schedule.release",
    sql: "UPDATE schedule_slots SET heartbeat_at = $3, lease_expires_at = $3
          WHERE id = $1 AND epoch = $2 AND state = 'running'",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Can be sent again when its answer was lost: only this claim knows this epoch, and every later claim and vacating
/// changes it.
pub(super) const SUCCEED: Statement = Statement {
    name: "schedule.succeed",
    sql: "UPDATE schedule_slots
          SET state = 'succeeded', finished_at = greatest($3, started_at), outcome = $4, lease_expires_at = NULL
          WHERE id = $1 AND epoch = $2 AND state IN ('running', 'succeeded')",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::JSONB],
    columns: &[],
};

/// Can be sent again, as [`SUCCEED`].
pub(super) const FAIL: Statement = Statement {
    name: "schedule.fail",
    sql: "UPDATE schedule_slots
          SET state = 'failed', finished_at = greatest($3, started_at), error = $4, retry_at = $5, lease_expires_at = NULL
          WHERE id = $1 AND epoch = $2 AND state IN ('running', 'failed')",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[],
};

pub(super) const FENCE: Statement = Statement {
    name: "schedule.fence",
    sql: "SELECT id FROM schedule_slots WHERE id = $1 AND epoch = $2 AND state = 'running' FOR KEY SHARE",
    params: &[Type::INT8, Type::INT8],
    columns: &[("id", Type::INT8)],
};

const SLOT: &[(&str, Type)] = &[
    ("task", Type::TEXT),
    ("slot_at", Type::TIMESTAMPTZ),
    ("on_demand", Type::BOOL),
    ("state", Type::TEXT),
    ("epoch", Type::INT8),
    ("runner", Type::TEXT),
    ("attempts", Type::INT4),
    ("missed", Type::INT8),
    ("started_at", Type::TIMESTAMPTZ),
    ("heartbeat_at", Type::TIMESTAMPTZ),
    ("lease_expires_at", Type::TIMESTAMPTZ),
    ("finished_at", Type::TIMESTAMPTZ),
    ("retry_at", Type::TIMESTAMPTZ),
    ("outcome", Type::JSONB),
    ("error", Type::TEXT),
];

pub(super) const LAST: Statement = Statement {
    name: "schedule.last",
    sql: "SELECT s.task, s.slot_at, s.on_demand, s.state, s.epoch, s.runner, s.attempts, s.missed, s.started_at,
                 s.heartbeat_at, s.lease_expires_at, s.finished_at, s.retry_at, s.outcome, s.error
          FROM unnest($1) AS known (task)
          CROSS JOIN LATERAL (
              SELECT * FROM schedule_slots WHERE task = known.task ORDER BY slot_at DESC, id DESC LIMIT 1
          ) s",
    params: &[Type::TEXT_ARRAY],
    columns: SLOT,
};

pub(super) const HISTORY: Statement = Statement {
    name: "schedule.history",
    sql: "SELECT task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at,
                 heartbeat_at, lease_expires_at, finished_at, retry_at, outcome, error
          FROM schedule_slots WHERE task = $1 ORDER BY slot_at DESC, id DESC LIMIT $2",
    params: &[Type::TEXT, Type::INT8],
    columns: SLOT,
};

/// What is owed is counted from the last success, which therefore stays, however old.
pub(super) const PRUNE: Statement = Statement {
    name: "schedule.prune",
    sql: "DELETE FROM schedule_slots old
          WHERE old.finished_at < $1 AND EXISTS (
              SELECT FROM schedule_slots newer
              WHERE newer.task = old.task AND NOT newer.on_demand AND newer.state = 'succeeded'
                AND newer.slot_at > old.slot_at
          )",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};
