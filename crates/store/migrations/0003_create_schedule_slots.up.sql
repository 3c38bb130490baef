-- The durable schedule: which tasks exist, and what became of each time at which one was due.
CREATE TABLE schedule_tasks (
    task          text        NOT NULL CONSTRAINT schedule_tasks_pkey PRIMARY KEY
        CONSTRAINT schedule_tasks_task_is_a_name CHECK (task ~ '^[a-z][a-z0-9_]{0,49}$'),
    -- As the program that last registered the task has it; for people to read, the program decides.
    cadence       text        NOT NULL CONSTRAINT schedule_tasks_cadence_length CHECK (char_length(cadence) BETWEEN 1 AND 100),
    -- The task owes no slot before this.
    first_seen_at timestamptz NOT NULL,
    -- An administrator's switch: a disabled task is not started by the schedule.
    enabled       boolean     NOT NULL DEFAULT true,
    -- The last epoch given out; each claim of any of the task's slots gets the next, so that a later claim always
    -- carries the higher number.
    epoch         bigint      NOT NULL DEFAULT 0 CONSTRAINT schedule_tasks_epoch_not_negative CHECK (epoch >= 0)
);

CREATE TABLE schedule_slots (
    id               bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT schedule_slots_pkey PRIMARY KEY,
    task             text        NOT NULL CONSTRAINT schedule_slots_task_exists REFERENCES schedule_tasks (task),
    -- When it was due; for a run on demand, when that was asked for.
    slot_at          timestamptz NOT NULL,
    on_demand        boolean     NOT NULL,
    state            text        NOT NULL CONSTRAINT schedule_slots_state_known CHECK (state IN ('running', 'succeeded', 'failed')),
    epoch            bigint      NOT NULL CONSTRAINT schedule_slots_epoch_positive CHECK (epoch > 0),
    runner           text        NOT NULL CONSTRAINT schedule_slots_runner_length CHECK (char_length(runner) BETWEEN 1 AND 200),
    attempts         integer     NOT NULL CONSTRAINT schedule_slots_attempts_positive CHECK (attempts > 0),
    -- How many earlier slots, which did not succeed, this one stands for.
    missed           bigint      NOT NULL CONSTRAINT schedule_slots_missed_not_negative CHECK (missed >= 0),
    -- Of the latest attempt.
    started_at       timestamptz NOT NULL,
    heartbeat_at     timestamptz NOT NULL,
    lease_expires_at timestamptz,
    finished_at      timestamptz,
    -- When a failed slot is tried again; NULL when it was given up.
    retry_at         timestamptz,
    outcome          jsonb,
    -- The last failed attempt's; stays when a later attempt succeeds.
    error            text        CONSTRAINT schedule_slots_error_length CHECK (char_length(error) <= 2000),
    CONSTRAINT schedule_slots_running_has_a_lease CHECK ((state = 'running') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT schedule_slots_finished_has_a_time CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT schedule_slots_lease_after_heartbeat CHECK (lease_expires_at >= heartbeat_at),
    CONSTRAINT schedule_slots_finished_after_start CHECK (finished_at >= started_at),
    CONSTRAINT schedule_slots_failed_has_an_error CHECK (state <> 'failed' OR error IS NOT NULL),
    CONSTRAINT schedule_slots_only_failed_is_retried CHECK (state = 'failed' OR retry_at IS NULL),
    CONSTRAINT schedule_slots_only_succeeded_has_an_outcome CHECK ((state = 'succeeded') = (outcome IS NOT NULL))
);

-- A due time exists once, whoever finds it first.
CREATE UNIQUE INDEX schedule_slots_due_once ON schedule_slots (task, slot_at) WHERE NOT on_demand;
-- No task runs beside itself.
CREATE UNIQUE INDEX schedule_slots_one_running ON schedule_slots (task) WHERE state = 'running';
-- The history, newest first.
CREATE INDEX schedule_slots_history ON schedule_slots (task, slot_at DESC, id DESC);

COMMENT ON TABLE schedule_tasks IS 'Every task that was ever registered.';
COMMENT ON TABLE schedule_slots IS 'Each due time of a task, and each run on demand, that was started at least once.';

GRANT SELECT, INSERT (task, cadence, first_seen_at), UPDATE (cadence, epoch) ON schedule_tasks TO utxoiq_app;
-- The schedule runs as the serving role: it opens slots and moves them on, but cannot make one another's. DELETE is
-- for pruning the history: what this role could hide by it, it could also rewrite by an UPDATE. The record that
-- nobody can rewrite is the audit log.
GRANT SELECT, INSERT, DELETE ON schedule_slots TO utxoiq_app;
GRANT UPDATE (state, epoch, runner, attempts, started_at, heartbeat_at, lease_expires_at, finished_at, retry_at, outcome, error)
    ON schedule_slots TO utxoiq_app;
