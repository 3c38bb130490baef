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
    &IS_RUNNING,
];

/// In name order, so that two processes that register the same tasks do not deadlock.
pub(super) const REGISTER: Statement = Statement {
    name: "schedule.register",
    sql: "insert into schedule_tasks (task, cadence, first_seen_at)
          select task, cadence, $3 from unnest($1::text[], $2::text[]) as known (task, cadence) order by task
          on conflict (task) do update set cadence = excluded.cadence
          where schedule_tasks.cadence <> excluded.cadence",
    params: &[Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::TIMESTAMPTZ],
    columns: &[],
};

/// All that deciding needs: the running slot, the newest scheduled one, and the last that succeeded.
pub(super) const LOAD: Statement = Statement {
    name: "schedule.load",
    sql: "select t.task, t.cadence, t.first_seen_at, t.enabled,
                 r.id as running_id, r.slot_at as running_slot_at, r.on_demand as running_on_demand,
                 r.epoch as running_epoch, r.attempts as running_attempts, r.missed as running_missed,
                 r.lease_expires_at,
                 n.id as newest_id, n.slot_at as newest_slot_at, n.epoch as newest_epoch,
                 n.attempts as newest_attempts, n.missed as newest_missed, n.retry_at,
                 s.slot_at as succeeded_slot_at
          from schedule_tasks t
          left join schedule_slots r on r.task = t.task and r.state = 'running'
          left join lateral (
              select id, slot_at, epoch, attempts, missed, retry_at from schedule_slots
              where task = t.task and not on_demand order by slot_at desc limit 1
          ) n on true
          left join lateral (
              select slot_at from schedule_slots
              where task = t.task and not on_demand and state = 'succeeded' order by slot_at desc limit 1
          ) s on true
          where t.task = any ($1)",
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
    sql: "select task from schedule_tasks where task = $1 for update",
    params: &[Type::TEXT],
    columns: &[("task", Type::TEXT)],
};

pub(super) const NEXT_EPOCH: Statement = Statement {
    name: "schedule.next_epoch",
    sql: "update schedule_tasks set epoch = epoch + 1 where task = $1 returning epoch",
    params: &[Type::TEXT],
    columns: &[("epoch", Type::INT8)],
};

/// Takes a slot away from its last claim, if it is still as it was when that was decided. FOR UPDATE conflicts with
/// the FOR KEY SHARE of a fence (a heartbeat's plain UPDATE does not); SKIP LOCKED leaves the slot to a later tick.
pub(super) const LOCK_SLOT: Statement = Statement {
    name: "schedule.lock_slot",
    sql: "select id from schedule_slots
          where id = $1 and epoch = $2
            and ((state = 'running' and lease_expires_at <= $3) or (state = 'failed' and retry_at <= $3))
          for update skip locked",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ],
    columns: &[("id", Type::INT8)],
};

/// The new epoch keeps the lost runner out.
pub(super) const VACATE: Statement = Statement {
    name: "schedule.vacate",
    sql: "update schedule_slots
          set state = 'failed', epoch = $2, finished_at = greatest($3, started_at), lease_expires_at = null,
              retry_at = $4, error = $5
          where id = $1",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[],
};

pub(super) const START: Statement = Statement {
    name: "schedule.start",
    sql: "insert into schedule_slots
              (task, slot_at, on_demand, missed, epoch, runner, started_at, heartbeat_at, lease_expires_at, state, attempts)
          values ($1, $2, $3, $4, $5, $6, $7, $7, $8, 'running', 1)
          returning id",
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
    sql: "update schedule_slots
          set state = 'running', attempts = attempts + 1, epoch = $2, runner = $3,
              started_at = $4, heartbeat_at = $4, lease_expires_at = $5, finished_at = null, retry_at = null,
              error = coalesce($6, error)
          where id = $1",
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
    sql: "update schedule_slots set heartbeat_at = $3, lease_expires_at = $4
          where id = $1 and epoch = $2 and state = 'running'",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[],
};

/// A runner that stops in good order ends its lease, so that another need not wait for it, and gives its attempt back:
/// five deployments during one long run are no five failures.
pub(super) const RELEASE: Statement = Statement {
    name: "schedule.release",
    sql:
        "update schedule_slots set heartbeat_at = $3, lease_expires_at = $3, attempts = attempts - 1
          where id = $1 and epoch = $2 and state = 'running'",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Can be sent again when its answer was lost: only this claim knows this epoch, and every later claim and vacating
/// changes it.
pub(super) const SUCCEED: Statement = Statement {
    name: "schedule.succeed",
    sql: "update schedule_slots
          set state = 'succeeded', finished_at = greatest($3, started_at), outcome = $4, lease_expires_at = null
          where id = $1 and epoch = $2 and state in ('running', 'succeeded')",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::JSONB],
    columns: &[],
};

/// Can be sent again, as [`SUCCEED`].
pub(super) const FAIL: Statement = Statement {
    name: "schedule.fail",
    sql: "update schedule_slots
          set state = 'failed', finished_at = greatest($3, started_at), error = $4, retry_at = $5, lease_expires_at = null
          where id = $1 and epoch = $2 and state in ('running', 'failed')",
    params: &[Type::INT8, Type::INT8, Type::TIMESTAMPTZ, Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[],
};

pub(super) const FENCE: Statement = Statement {
    name: "schedule.fence",
    sql: "select id from schedule_slots where id = $1 and epoch = $2 and state = 'running' for key share",
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
    sql: "select s.task, s.slot_at, s.on_demand, s.state, s.epoch, s.runner, s.attempts, s.missed, s.started_at,
                 s.heartbeat_at, s.lease_expires_at, s.finished_at, s.retry_at, s.outcome, s.error
          from unnest($1::text[]) as known (task)
          cross join lateral (
              select * from schedule_slots where task = known.task order by slot_at desc, id desc limit 1
          ) s",
    params: &[Type::TEXT_ARRAY],
    columns: SLOT,
};

pub(super) const HISTORY: Statement = Statement {
    name: "schedule.history",
    sql: "select task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at,
                 heartbeat_at, lease_expires_at, finished_at, retry_at, outcome, error
          from schedule_slots where task = $1 order by slot_at desc, id desc limit $2",
    params: &[Type::TEXT, Type::INT8],
    columns: SLOT,
};

/// What is owed is counted from the last success, which therefore stays, however old.
pub(super) const PRUNE: Statement = Statement {
    name: "schedule.prune",
    sql: "delete from schedule_slots old
          where old.finished_at < $1 and exists (
              select from schedule_slots newer
              where newer.task = old.task and not newer.on_demand and newer.state = 'succeeded'
                and newer.slot_at > old.slot_at
          )",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};

/// Whether a slot of a task is held by a lease that is not over.
pub(super) const IS_RUNNING: Statement = Statement {
    name: "schedule.is_running",
    sql: "select exists (select from schedule_slots where task = $1 and state = 'running' and lease_expires_at > $2) as is_running",
    params: &[Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[("is_running", Type::BOOL)],
};
