//! A database with many jobs: mostly completed, some failed or cancelled, a few hundred running, the newest of them by
//! workers with leases.

use std::time::Instant;

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    backfill::{BlockRange, ClaimKey},
    clock::{Clock as _, SystemClock},
};
use uuid::Uuid;

use super::{Options, pgbench::Pgbench};
use crate::database::TestDb;

/// How many jobs run: the newest ones.
pub const RUNNING: i64 = 320;

/// How many claims there are: on the newest jobs, [`CLAIMS_A_JOB`] each.
pub const CLAIMS: usize = 64;

/// How many claims a job has that is worked on with leases.
pub const CLAIMS_A_JOB: usize = 4;

/// How many running jobs without claims each client reports on in turn.
pub const JOBS_A_CLIENT: i64 = 4;

/// The fewest jobs with which all of the above exist.
pub const MIN_ROWS: i64 = 1_000;

/// A running job, and each claim, has more blocks than can be finished in a run.
const BLOCKS_A_JOB: i64 = 1_000_000_000;
const BLOCKS_A_CLAIM: i64 = 100_000_000;

/// Blocks of a running job that are finished at first.
const FINISHED: i64 = 1_000;

/// The epoch of every claim.
const EPOCH: i64 = 1;

/// The jobs, in order of time. $1 is how many, $2 how many of them run, $3 the present time.
const JOBS: &str = "
insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
    attempt_covered_blocks, claim_epoch, error_message, created_by, started_at, progressed_at, heard_at, ended_at)
select lpad(n::text, 32, '0')::uuid,
       case when n % 100 < 50 then 'blocks' when n % 100 < 75 then 'transactions' when n % 100 < 90 then 'addresses'
            when n % 100 < 98 then 'insights' else 'prices' end,
       first, last, status,
       case status when 'completed' then int8multirange(int8range(first, last, '[]'))
                   when 'running' then int8multirange(int8range(first, first + 1000))
                   else int8multirange(int8range(first, first + 4000), int8range(first + 4500, first + 6000)) end,
       1, started_at, 0, 1, case status when 'failed' then 'the node closed the connection' end, 'scheduler',
       started_at, least(started_at + interval '8 minutes', $3), least(started_at + interval '8 minutes', $3),
       case when status <> 'running' then started_at + interval '10 minutes' end
from generate_series(1, $1::bigint) n
cross join lateral (select n * 1000000000 as first, $3::timestamptz - ($1 - n) * interval '30 seconds' as started_at,
                           case when n > $1 - $2::bigint then 'running' when n % 40 = 0 then 'failed'
                                when n % 400 = 1 then 'cancelled' else 'completed' end as status) job
cross join lateral (select first + case status when 'running' then 999999999 else 9999 end as last) bounds
order by n";

const ATTEMPTS: &str = "
insert into backfill_attempts (job_id, attempt, started_at, covered_blocks, ended_at, outcome, error_message)
select id, attempt, attempt_started_at, attempt_covered_blocks, ended_at,
       case when ended_at is not null then status end, error_message
from backfill_jobs";

/// The claims of the newest jobs. $1 is how many jobs there are, $2 how many claims, $3 how many of them on one job,
/// $4 the present time.
const CLAIM: &str = "
insert into backfill_claims (id, job_id, attempt, epoch, worker, blocks, done, claimed_at, heartbeat_at, lease_expires_at)
select lpad(c::text, 32, '0')::uuid, lpad(($1::bigint - c / $3::bigint)::text, 32, '0')::uuid, 1, 1 + c % $3,
       'worker ' || c, int8range(first, first + 100000000), '{}', $4::timestamptz, $4, $4 + interval '1 day'
from generate_series(0, $2::bigint - 1) c
cross join lateral (select ($1 - c / $3) * 1000000000 + 1000 + c % $3 * 100000000 as first) bounds";

/// Takes all work of earlier rounds back, so that every round does the same.
const RESET: &str = "
update backfill_jobs set covered = int8multirange(int8range(start_block, start_block + 1000)) where status = 'running';
update backfill_claims set done = '{}', progressed_at = null;
vacuum backfill_claims;
vacuum backfill_jobs";

/// The database, and a store on it that lives as long as the process.
pub struct Fixture {
    /// Dropped with it.
    #[allow(
        dead_code,
        reason = "the store's measurements have all they need of it"
    )]
    pub database: TestDb,
    /// As the superuser.
    pub admin: Client,
    /// The store.
    pub store: &'static Store,
    /// The same by pgbench.
    pub pgbench: Pgbench,
    /// When the measurements began.
    pub began_at: DateTime<Utc>,
    rows: i64,
}

impl Fixture {
    /// Makes the database and fills it; says how long that took.
    pub async fn new(options: &Options) -> Self {
        let database = TestDb::new().await;
        let admin = database.admin().await;
        let began_at = SystemClock.now();
        fill(&admin, options.rows, began_at).await;
        let clients = options.clients.to_string();
        let config = database.settings_with(&[
            ("UTXOIQ_STORE_DATABASE__POOL_MIN", &clients),
            ("UTXOIQ_STORE_DATABASE__POOL_MAX", &clients),
            // The claims must outlive the rounds in which pgbench is measured.
            ("UTXOIQ_STORE_BACKFILL__LEASE_SECONDS", "86400"),
            ("UTXOIQ_STORE_BACKFILL__SILENCE_SECONDS", "172800"),
        ]);
        let store: &'static Store = Box::leak(Box::new(Store::open(config).unwrap()));
        let pgbench = Pgbench {
            url: database.app_url(),
            options: session_settings(store).await,
        };
        Self {
            database,
            admin,
            store,
            pgbench,
            began_at,
            rows: options.rows,
        }
    }

    /// Takes all work of earlier rounds back.
    pub async fn reset(&self) {
        for statement in RESET.split(';') {
            self.admin.batch_execute(statement).await.unwrap();
        }
    }

    /// Some job or other, a different one in every turn: all of them come up, in no order that a cache could use.
    pub fn any_job(&self) -> impl Fn(usize, i64) -> Uuid + Copy + use<> {
        let rows = self.rows;
        move |client, turn| id(1 + (number(client) * 61_441 + turn * 514_229) % rows)
    }

    /// One of the running jobs that only this client reports on, and the block it is at: a higher one in every turn.
    pub fn reported(&self) -> impl Fn(usize, i64) -> (Uuid, i64) + Copy + use<> {
        let newest = self.newest_reported();
        move |client, turn| {
            let job = newest - number(client) * JOBS_A_CLIENT - turn % JOBS_A_CLIENT;
            (id(job), job * BLOCKS_A_JOB + FINISHED + 1 + turn)
        }
    }

    /// The number of the newest running job without claims.
    pub fn newest_reported(&self) -> i64 {
        self.rows - number(CLAIMS / CLAIMS_A_JOB)
    }

    /// The claim that only this client works on, and a block of it: the next one in every turn.
    pub fn recorded(&self) -> impl Fn(usize, i64) -> (ClaimKey, BlockRange) + Copy + use<> {
        let rows = self.rows;
        move |client, turn| {
            let place = number(client % CLAIMS_A_JOB);
            let job = rows - number(client / CLAIMS_A_JOB);
            let key = ClaimKey {
                job_id: id(job),
                claim_id: id(number(client)),
                epoch: EPOCH + place,
            };
            let start = job * BLOCKS_A_JOB + FINISHED + place * BLOCKS_A_CLAIM + turn;
            let end = start + 1;
            (key, BlockRange { start, end })
        }
    }
}

async fn fill(admin: &Client, rows: i64, now: DateTime<Utc>) {
    let started = Instant::now();
    let claims = number(CLAIMS);
    let a_job = number(CLAIMS_A_JOB);
    admin.execute(JOBS, &[&rows, &RUNNING, &now]).await.unwrap();
    admin.execute(ATTEMPTS, &[]).await.unwrap();
    admin
        .execute(CLAIM, &[&rows, &claims, &a_job, &now])
        .await
        .unwrap();
    admin.batch_execute("vacuum analyze").await.unwrap();
    // Else it falls into the first round.
    admin.batch_execute("checkpoint").await.unwrap();
    let size: String = admin
        .query_one(
            "select pg_size_pretty(pg_total_relation_size('backfill_jobs'))",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    println!(
        "{rows} jobs, {RUNNING} of them running, {CLAIMS} claims: {size} with indexes, made in {:.0} s",
        started.elapsed().as_secs_f64()
    );
}

/// The settings that a connection of the store asks for; they cost time, so pgbench must have them, too.
pub async fn session_settings(store: &Store) -> String {
    let connection = store.pool().get().await.unwrap();
    connection
        .query_one(
            "select string_agg(format('-c %s=%s', name, current_setting(name)), ' ')
             from pg_settings where source = 'client' and current_setting(name) !~ '[\\s\\\\]'",
            &[],
        )
        .await
        .unwrap()
        .get(0)
}

/// The id with this number, as `lpad(n::text, 32, '0')::uuid` makes it, which pgbench can do.
pub fn id(number: i64) -> Uuid {
    Uuid::parse_str(&format!("{number:032}")).expect("digits are hexadecimal digits")
}

fn number(count: usize) -> i64 {
    i64::try_from(count).expect("counts are small")
}
