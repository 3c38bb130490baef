-- Backfill jobs: what is to be done, what is done, and who is at it (C1.1 to C1.5).
-- created: 2026-11-23T03:00:00Z
--
-- backfill_jobs has one row a job with its ledger: `covered`, the set of finished blocks. Everything that follows from
-- the ledger is a generated column, so that no writer, psql included, can make them disagree.
-- backfill_claims has one row for each sub-range that a worker holds now; its finished blocks are folded into the
-- job's ledger, so that parallel workers do not queue on the job's row for each chunk.

create extension if not exists btree_gist; -- trusted: needs no superuser; the exclusion constraints below use it

-- Each progress write computes the generated columns. A subquery keeps an SQL function from being inlined, and then it is
-- planned anew in every statement that calls it: written so, these four took 0.4 ms of each write, and take 0.01 ms with
-- the two that cannot do without in PL/pgSQL, which keeps its plans for the session. Those two call nothing of ours: a
-- restore computes the columns with an empty search_path.

create function backfill_block_count(blocks int8multirange) returns bigint
    language plpgsql immutable strict parallel safe as $$
begin
    -- One range, as almost always, or none.
    if blocks = int8multirange(range_merge(blocks)) then
        return coalesce(upper(blocks) - lower(blocks), 0);
    end if;
    return (select sum(upper(r) - lower(r)) from unnest(blocks) as r);
end $$;
comment on function backfill_block_count is 'How many blocks a set of block ranges holds.';

create function backfill_current_block(covered int8multirange, start_block bigint, end_block bigint) returns bigint
    language sql immutable parallel safe -- not strict: else it is not inlined
    return coalesce(lower(int8multirange(int8range(start_block, end_block, '[]')) - covered), end_block);
comment on function backfill_current_block is
    'The lowest block that is missing: everything below it is done. The end block where nothing is missing.';

create function backfill_percentage(covered int8multirange, start_block bigint, end_block bigint) returns double precision
    language sql immutable strict parallel safe
    return (trunc(backfill_block_count(covered)::numeric * 10000 / (end_block - start_block + 1)) / 100)::float8;
comment on function backfill_percentage is
    'The share of finished blocks in percent, rounded down to two places, so that 100 means all of them.';

create function backfill_projected_end(
    done bigint, missing bigint, began_at timestamptz, progressed_at timestamptz
) returns timestamptz
    language plpgsql immutable strict parallel safe as $$
declare
    elapsed constant float8 := extract(epoch from progressed_at - began_at)::float8;
    remaining float8;
begin
    if done <= 0 or elapsed <= 0 then
        return null;
    end if;
    remaining := missing::float8 / done::float8 * elapsed;
    if remaining >= 3155760000 then
        return null;
    end if;
    return to_timestamp(extract(epoch from progressed_at - to_timestamp(0))::float8 + remaining);
end $$;
comment on function backfill_projected_end is
    'When what is missing will be done, at the rate of what was done. Beyond a hundred years it is no estimate.';

-- The rate is that of the running attempt, from its start to its latest finished block, so that the estimate is a
-- function of what is stored and not of when it is asked.
create function backfill_estimated_completion(
    covered int8multirange, start_block bigint, end_block bigint,
    attempt_covered_blocks bigint, attempt_started_at timestamptz, progressed_at timestamptz
) returns timestamptz
    language sql immutable strict parallel safe
    return backfill_projected_end(
        backfill_block_count(covered) - attempt_covered_blocks,
        end_block - start_block + 1 - backfill_block_count(covered), attempt_started_at, progressed_at);
comment on function backfill_estimated_completion is
    'When the job will be done at the rate of its present attempt; null before its first finished block.';

create table backfill_jobs (
    id                     uuid        not null,
    job_type               text        not null,
    start_block            bigint      not null,
    end_block              bigint      not null,
    status                 text        not null,
    covered                int8multirange not null,
    attempt                integer     not null,
    attempt_started_at     timestamptz not null,
    attempt_covered_blocks bigint      not null,
    claim_epoch            bigint      not null,
    external_id            text,
    created_by             text,
    error_message          text,
    paused_by              text,
    started_at             timestamptz not null,
    progressed_at          timestamptz not null,
    heard_at               timestamptz not null,
    implicit_heard_at      timestamptz,
    reported_covered_blocks bigint,
    trusted_below          bigint,
    ended_at               timestamptz,
    shown_status           text generated always as (case status when 'cancelled' then 'failed' else status end) stored,
    completed_at           timestamptz generated always as (case status when 'completed' then ended_at end) stored,
    covered_blocks         bigint generated always as (backfill_block_count(covered)) stored,
    current_block          bigint generated always as (backfill_current_block(covered, start_block, end_block)) stored,
    progress_percentage    double precision generated always as (backfill_percentage(covered, start_block, end_block)) stored,
    estimated_completion   timestamptz generated always as (
        case status when 'running' then backfill_estimated_completion(
            covered, start_block, end_block, attempt_covered_blocks, attempt_started_at, progressed_at) end) stored,
    constraint backfill_jobs_pkey primary key (id),
    constraint backfill_jobs_external_id_key unique (external_id),
    constraint backfill_jobs_job_type_check check (char_length(job_type) between 1 and 50),
    constraint backfill_jobs_external_id_check check (char_length(external_id) between 1 and 255),
    constraint backfill_jobs_created_by_check check (char_length(created_by) between 1 and 100),
    -- 2^53 - 2: every bound, and the count of all blocks, is exact in JSON and in double precision.
    constraint backfill_jobs_blocks_check check (0 <= start_block and start_block <= end_block and end_block <= 9007199254740990),
    constraint backfill_jobs_status_check check (status in ('running', 'paused', 'completed', 'failed', 'cancelled')),
    constraint backfill_jobs_covered_check check (covered <@ int8range(start_block, end_block, '[]')),
    constraint backfill_jobs_completed_check check (
        status <> 'completed' or covered = int8multirange(int8range(start_block, end_block, '[]'))),
    constraint backfill_jobs_ended_check check ((status in ('completed', 'failed', 'cancelled')) = (ended_at is not null)),
    constraint backfill_jobs_failed_check check (status <> 'failed' or error_message is not null),
    constraint backfill_jobs_paused_check check ((status = 'paused') = (paused_by is not null)),
    constraint backfill_jobs_paused_by_check check (paused_by in ('operator', 'worker')),
    constraint backfill_jobs_attempt_check check (attempt >= 1 and claim_epoch >= 0 and attempt_covered_blocks >= 0),
    -- Two active jobs of one type may not overlap. The backstop: writers take a lock on the type first, because by this
    -- constraint alone concurrent starts deadlock with each other.
    constraint backfill_jobs_no_overlap exclude using gist (job_type with =, int8range(start_block, end_block, '[]') with &&)
        where (status in ('running', 'paused'))
) with (fillfactor = 80); -- room for progress to be written in place, without touching an index

create index backfill_jobs_started_idx on backfill_jobs (started_at desc, id desc);
create index backfill_jobs_type_started_idx on backfill_jobs (job_type, started_at desc, id desc);
create index backfill_jobs_status_started_idx on backfill_jobs (shown_status, started_at desc, id desc);
create index backfill_jobs_type_status_started_idx on backfill_jobs (job_type, shown_status, started_at desc, id desc);
create index backfill_jobs_range_idx on backfill_jobs (job_type, start_block, end_block, started_at desc, id desc);

comment on table backfill_jobs is 'One row a backfill job. Block bounds are inclusive; covered is its ledger of finished blocks.';
comment on column backfill_jobs.attempt_covered_blocks is 'Finished blocks when the present attempt began: the base of its rate.';
comment on column backfill_jobs.claim_epoch is 'The last epoch given to a claim of this job.';
comment on column backfill_jobs.external_id is 'The id that the reporter script chose for its job.';
comment on column backfill_jobs.shown_status is 'The status for clients that know four: cancelled shows as failed.';
comment on column backfill_jobs.progressed_at is 'When the ledger last grew.';
comment on column backfill_jobs.heard_at is 'The last sign of life of any worker.';
comment on column backfill_jobs.implicit_heard_at is 'The last sign of life of a worker that knows no lease.';

comment on column backfill_jobs.reported_covered_blocks is 'Finished blocks when the reporter script last started.';
comment on column backfill_jobs.trusted_below is
    'Where a worker without a lease met its first error: from here on its progress says nothing, for there are holes.';

create table backfill_claims (
    id               uuid        not null,
    job_id           uuid        not null,
    attempt          integer     not null,
    epoch            bigint      not null,
    worker           text        not null,
    blocks           int8range   not null,
    done             int8multirange not null,
    claimed_at       timestamptz not null,
    progressed_at    timestamptz,
    heartbeat_at     timestamptz not null,
    lease_expires_at timestamptz not null,
    constraint backfill_claims_pkey primary key (id),
    constraint backfill_claims_job_id_fkey foreign key (job_id) references backfill_jobs (id) on delete cascade,
    constraint backfill_claims_epoch_key unique (job_id, epoch),
    constraint backfill_claims_worker_check check (char_length(worker) between 1 and 200),
    constraint backfill_claims_blocks_check check (not isempty(blocks) and done <@ blocks),
    constraint backfill_claims_lease_check check (lease_expires_at > claimed_at),
    constraint backfill_claims_no_overlap exclude using gist (job_id with =, blocks with &&)
) with (fillfactor = 50);
comment on table backfill_claims is
    'The sub-ranges that workers hold now. A row that is gone fences its worker out: its writes find nothing to change.';

create table backfill_attempts (
    job_id         uuid        not null,
    attempt        integer     not null,
    started_at     timestamptz not null,
    covered_blocks bigint      not null,
    ended_at       timestamptz,
    outcome        text,
    error_message  text,
    constraint backfill_attempts_pkey primary key (job_id, attempt),
    constraint backfill_attempts_job_id_fkey foreign key (job_id) references backfill_jobs (id) on delete cascade,
    constraint backfill_attempts_outcome_check check (outcome in ('completed', 'failed', 'cancelled')),
    constraint backfill_attempts_ended_check check ((outcome is null) = (ended_at is null))
);
comment on table backfill_attempts is 'The history of a job: each attempt, how it ended, and the error it ended with.';
comment on column backfill_attempts.covered_blocks is 'Finished blocks when the attempt began.';

create table backfill_errors (
    id          bigint generated always as identity,
    job_id      uuid        not null,
    attempt     integer     not null,
    blocks      int8range,
    worker      text        not null,
    try         integer     not null,
    message     text        not null,
    occurred_at timestamptz not null,
    constraint backfill_errors_pkey primary key (id),
    constraint backfill_errors_job_id_fkey foreign key (job_id) references backfill_jobs (id) on delete cascade,
    constraint backfill_errors_try_check check (try >= 1),
    constraint backfill_errors_message_check check (char_length(message) between 1 and 4000)
);
create index backfill_errors_job_id_idx on backfill_errors (job_id, id);
comment on table backfill_errors is 'Errors of single chunks, the newest ones of each job.';

create table backfill_checkpoints (
    job_id      uuid        not null,
    block       bigint      not null,
    block_hash  text        not null,
    recorded_at timestamptz not null,
    constraint backfill_checkpoints_pkey primary key (job_id, block),
    constraint backfill_checkpoints_job_id_fkey foreign key (job_id) references backfill_jobs (id) on delete cascade,
    constraint backfill_checkpoints_hash_check check (char_length(block_hash) between 1 and 128)
);
comment on table backfill_checkpoints is
    'Hashes of finished blocks. Another hash at the same height means a reorganised chain: the job is rewound below it.';

grant select, insert, update on backfill_jobs, backfill_attempts to utxoiq_app;
grant select, insert, update, delete on backfill_claims to utxoiq_app; -- a finished or lost claim goes
grant select, insert, delete on backfill_errors, backfill_checkpoints to utxoiq_app; -- bounded per job; rewinds
