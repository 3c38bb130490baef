-- The durable schedule: which tasks exist, and what became of each time at which one was due.
-- created: 2026-11-23T03:30:00Z
create table schedule_tasks (
    task          text        not null,
    -- As the program that last registered the task has it; for people to read, the program decides.
    cadence       text        not null,
    -- The task owes no slot before this.
    first_seen_at timestamptz not null,
    -- An administrator's switch: a disabled task is not started by the schedule.
    enabled       boolean     not null default true,
    -- The last epoch given out; each claim of any of the task's slots gets the next, so that a later claim always
    -- carries the higher number.
    epoch         bigint      not null default 0,
    constraint schedule_tasks_pkey primary key (task),
    constraint schedule_tasks_task_is_a_name check (task ~ '^[a-z][a-z0-9_]{0,49}$'),
    constraint schedule_tasks_cadence_length check (char_length(cadence) between 1 and 100),
    constraint schedule_tasks_epoch_not_negative check (epoch >= 0)
);

create table schedule_slots (
    id               bigint      generated always as identity,
    task             text        not null,
    -- When it was due; for a run on demand, when that was asked for.
    slot_at          timestamptz not null,
    on_demand        boolean     not null,
    state            text        not null,
    epoch            bigint      not null,
    runner           text        not null,
    attempts         integer     not null,
    -- How many earlier slots, which did not succeed, this one stands for.
    missed           bigint      not null,
    -- Of the latest attempt.
    started_at       timestamptz not null,
    heartbeat_at     timestamptz not null,
    lease_expires_at timestamptz,
    finished_at      timestamptz,
    -- When a failed slot is tried again; null when it was given up.
    retry_at         timestamptz,
    outcome          jsonb,
    -- The last failed attempt's; stays when a later attempt succeeds.
    error            text,
    constraint schedule_slots_pkey primary key (id),
    constraint schedule_slots_task_exists foreign key (task) references schedule_tasks (task),
    constraint schedule_slots_state_known check (state in ('running', 'succeeded', 'failed')),
    constraint schedule_slots_epoch_positive check (epoch > 0),
    constraint schedule_slots_runner_length check (char_length(runner) between 1 and 200),
    constraint schedule_slots_attempts_not_negative check (attempts >= 0), -- 0: given back before it was over
    constraint schedule_slots_missed_not_negative check (missed >= 0),
    constraint schedule_slots_error_length check (char_length(error) <= 2000),
    constraint schedule_slots_running_has_a_lease check ((state = 'running') = (lease_expires_at is not null)),
    constraint schedule_slots_finished_has_a_time check ((state = 'running') = (finished_at is null)),
    constraint schedule_slots_lease_after_heartbeat check (lease_expires_at >= heartbeat_at),
    constraint schedule_slots_finished_after_start check (finished_at >= started_at),
    constraint schedule_slots_failed_has_an_error check (state <> 'failed' or error is not null),
    constraint schedule_slots_only_failed_is_retried check (state = 'failed' or retry_at is null),
    constraint schedule_slots_only_succeeded_has_an_outcome check ((state = 'succeeded') = (outcome is not null))
);

-- A due time exists once, whoever finds it first.
create unique index schedule_slots_due_once on schedule_slots (task, slot_at) where not on_demand;
-- No task runs beside itself.
create unique index schedule_slots_one_running on schedule_slots (task) where state = 'running';
-- The history, newest first.
create index schedule_slots_history on schedule_slots (task, slot_at desc, id desc);

comment on table schedule_tasks is 'Every task that was ever registered.';
comment on table schedule_slots is 'Each due time of a task, and each run on demand, that was started at least once.';

grant select, insert (task, cadence, first_seen_at), update (cadence, epoch) on schedule_tasks to utxoiq_app;
-- The schedule runs as the serving role: it opens slots and moves them on, but cannot make one another's. Deleting is
-- for pruning the history: what this role could hide by it, it could also rewrite by an update. The record that
-- nobody can rewrite is the audit log.
grant select, insert, delete on schedule_slots to utxoiq_app;
grant update (state, epoch, runner, attempts, started_at, heartbeat_at, lease_expires_at, finished_at, retry_at, outcome, error)
    on schedule_slots to utxoiq_app;
