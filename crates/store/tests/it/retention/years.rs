//! 900 days, tick by tick, with everything that goes wrong: on each of them what is hot, cold and gone is what the policy says.
//!
//! The test keeps its own records of every row that it lays, and computes from them where each has to be. Where a run could not
//! do its work, a row may be where it was or where it is due, and on the first good run all of them are where they are due.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use utxoiq_store::{
    cold::Dataset,
    retention::Held,
    schedule::{Scheduler, SlotResult},
    worker,
};
use utxoiq_store_testkit::{Fault, FaultyStore, Request, urls};
use uuid::Uuid;

use super::{ACTOR, House, after, day, start};

const FIRST: &str = "2023-11-20";
const DAYS: u64 = 900;

/// The tasks that this is about.
const TASKS: [&str; 4] = [
    "run_retention",
    "make_metric_partitions",
    "roll_up_metrics",
    "release_expired_holds",
];

/// Cold storage for less long than by default, so that everything goes within the time.
const SETTINGS: [(&str, &str); 4] = [
    ("UTXOIQ_STORE_RETENTION__BACKFILL_COLD_MONTHS", "10"),
    ("UTXOIQ_STORE_RETENTION__FEEDBACK_COLD_MONTHS", "2"),
    ("UTXOIQ_STORE_RETENTION__LOCK_ATTEMPTS", "3"),
    ("UTXOIQ_STORE_DATABASE__POOL_MAX", "8"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Hot,
    Cold,
    Gone,
}

/// Rows that go together: one of a table; the samples of a day.
#[derive(Debug, Clone)]
struct Laid {
    dataset: Dataset,
    /// None for a job that has not ended.
    day: Option<NaiveDate>,
    user: String,
    insight: String,
    count: i64,
    place: Place,
}

/// A day so many calendar months before: the last of its month where that is shorter.
fn months_before(today: NaiveDate, months: i32) -> NaiveDate {
    let month = today.year() * 12 + today.month0().cast_signed() - months;
    let (year, month) = (
        month.div_euclid(12),
        month.rem_euclid(12).cast_unsigned() + 1,
    );
    (0..4)
        .find_map(|less| NaiveDate::from_ymd_opt(year, month, today.day() - less))
        .unwrap()
}

/// Where a row of a day is due, on a day.
fn due(dataset: Dataset, of: Option<NaiveDate>, today: NaiveDate) -> Place {
    let Some(of) = of else {
        return Place::Hot;
    };
    let age = (today - of).num_days();
    let (is_hot, is_cold) = match dataset {
        Dataset::Metrics => (age <= 90, age < 455),
        Dataset::BackfillJobs => (
            age <= 180,
            (months_before(today, 10) - of).num_days() <= 180,
        ),
        _ => (
            of >= months_before(today, 24),
            of >= months_before(today, 26),
        ),
    };
    match (is_hot, is_cold) {
        (true, _) => Place::Hot,
        (_, true) => Place::Cold,
        _ => Place::Gone,
    }
}

/// What a hold keeps, by the test's own reading.
fn keeps(held: &Held, row: &Laid) -> bool {
    let has_user = matches!(row.dataset, Dataset::Feedback | Dataset::FeedbackHistory);
    match held {
        Held::Day {
            dataset,
            first_day,
            last_day,
        } => {
            dataset.is_none_or(|dataset| dataset == row.dataset)
                && row
                    .day
                    .is_some_and(|day| day >= *first_day && day <= *last_day)
        }
        Held::User { user_id } => has_user && *user_id == row.user,
        Held::Insight { insight_id } => has_user && *insight_id == row.insight,
    }
}

/// What is wrong on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Store(Request, Fault),
    Rights(&'static str),
    Away,
    Killed(u64),
}

/// Rows of a dataset's day that are hot, cold and gone.
type Census = BTreeMap<(Dataset, NaiveDate), [i64; 3]>;

struct Years {
    house: House,
    faulty: FaultyStore,
    scheduler: Scheduler,
    random: StdRng,
    rows: Vec<Laid>,
    jobs: BTreeMap<usize, Uuid>,
    holds: Vec<(Held, NaiveDate)>,
    wrong: Vec<Wrong>,
    users: u32,
    moves: BTreeMap<(Dataset, &'static str), i64>,
}

impl Years {
    async fn new(mut random: StdRng) -> Self {
        let (house, faulty) = House::over_faulty(FIRST, Duration::from_secs(5), &SETTINGS).await;
        let mut tasks = worker::tasks(&house.store);
        tasks.retain(|task| TASKS.contains(&task.name));
        let clock = house.store.clock();
        let settings = house.db.settings().schedule;
        let pool = house.store.pool().clone();
        let scheduler = Scheduler::new(pool, clock, tasks, settings, "test").unwrap();
        scheduler
            .register(start(day(FIRST)) - TimeDelta::hours(1))
            .await
            .unwrap();
        let sql = format!(
            "insert into metric_services values ('api', '{FIRST}');
             insert into metric_series (service_name, metric_type, unit, labels, created_at)
                 values ('api', 'latency', 'ms', '{{}}', '{FIRST}')"
        );
        house.admin.batch_execute(&sql).await.unwrap();
        let wrong = plan_of_wrongs(&mut random);
        Self {
            house,
            faulty,
            scheduler,
            random,
            rows: Vec::new(),
            jobs: BTreeMap::new(),
            holds: Vec::new(),
            wrong,
            users: 0,
            moves: BTreeMap::new(),
        }
    }

    fn row(&mut self, dataset: Dataset, day: Option<NaiveDate>, names: (&str, &str), count: i64) {
        self.rows.push(Laid {
            dataset,
            day,
            user: names.0.to_owned(),
            insight: names.1.to_owned(),
            count,
            place: Place::Hot,
        });
    }

    /// What happens on a day: samples, some of them late; feedback, and edits of old one; jobs begin and end.
    async fn live(&mut self, today: NaiveDate) {
        let noon = start(today) + TimeDelta::hours(12);
        let mut sql = String::new();
        let count = self.random.random_range(0..4);
        let number = noon.timestamp();
        if count > 0 {
            let _ = write!(
                sql,
                "insert into system_metrics (series_id, sampled_at, value)
                 select 1, '{today} 00:00Z'::timestamptz + n * interval '5 hours', n from generate_series(1, {count}) n;"
            );
        }
        self.row(Dataset::Metrics, Some(today), ("", ""), count);
        if self.random.random_bool(0.15) && self.rows.len() > 100 {
            let late = today - TimeDelta::days(self.random.random_range(1..=88));
            let found = self.rows.iter_mut().find(|row| {
                row.dataset == Dataset::Metrics && row.day == Some(late) && row.place == Place::Hot
            });
            if let Some(row) = found {
                row.count += 1;
                let _ = write!(
                    sql,
                    "insert into system_metrics (series_id, sampled_at, value)
                     values (1, '{late} 03:00Z'::timestamptz + {number} % 7000 * interval '1 microsecond' + interval '1 s', 5);"
                );
            }
        }
        for _ in 0..2 {
            self.users += 1;
            let (user, insight) = (
                format!("user-{}", self.users),
                format!("insight-{}", self.users % 7),
            );
            let _ = write!(
                sql,
                "insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
                 values ('{insight}', '{user}', 4, '{noon}', '{noon}', '{noon}');"
            );
            for dataset in [Dataset::Feedback, Dataset::FeedbackHistory] {
                self.row(dataset, Some(today), (&user, &insight), 1);
            }
        }
        self.house.admin.batch_execute(&sql).await.unwrap();
        if self.random.random_bool(0.3) {
            self.edit(today, noon).await;
        }
        self.work(today, noon).await;
    }

    /// Somebody changes an old feedback, which is thereby of today.
    async fn edit(&mut self, today: NaiveDate, noon: DateTime<Utc>) {
        let hot: Vec<_> = (0..self.rows.len())
            .filter(|at| {
                self.rows[*at].dataset == Dataset::Feedback && self.rows[*at].place == Place::Hot
            })
            .collect();
        let chosen = hot[self.random.random_range(0..hot.len())];
        let (user, insight) = (
            self.rows[chosen].user.clone(),
            self.rows[chosen].insight.clone(),
        );
        let sql = "update insight_feedback set rating = 1 + rating % 5, rated_at = $1, updated_at = $1 where user_id = $2 and rated_at < $1";
        if self
            .house
            .admin
            .execute(sql, &[&noon, &user])
            .await
            .unwrap()
            == 1
        {
            self.rows[chosen].day = Some(today);
            self.row(Dataset::FeedbackHistory, Some(today), (&user, &insight), 1);
        }
    }

    /// A job begins; it ends at once, or maybe later, or never.
    async fn work(&mut self, today: NaiveDate, noon: DateTime<Utc>) {
        let id = Uuid::from_u128(self.random.random());
        let ended = self.random.random_bool(0.7);
        let sql = "insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
                       attempt_covered_blocks, claim_epoch, started_at, progressed_at, heard_at, ended_at)
                   values ($1, 'job ' || $1::uuid, 0, 9, case when $3::boolean then 'cancelled' else 'running' end, '{}', 1, $2::timestamptz, 0, 0, $2, $2, $2,
                           case when $3 then $2::timestamptz end)";
        self.house
            .admin
            .execute(sql, &[&id, &noon, &ended])
            .await
            .unwrap();
        self.row(Dataset::BackfillJobs, ended.then_some(today), ("", ""), 1);
        if !ended {
            self.jobs.insert(self.rows.len() - 1, id);
        }
        if self.random.random_bool(0.2) && !self.jobs.is_empty() {
            let at = self.random.random_range(0..self.jobs.len());
            let (&row, &id) = self.jobs.iter().nth(at).unwrap();
            let sql = "update backfill_jobs set status = 'cancelled', ended_at = $2::timestamptz, progressed_at = $2, heard_at = $2 where id = $1";
            self.house.admin.execute(sql, &[&id, &noon]).await.unwrap();
            self.jobs.remove(&row);
            self.rows[row].day = Some(today);
        }
    }

    /// Places a hold of something that is about to move, for some weeks.
    async fn hold(&mut self, number: usize, today: NaiveDate) {
        let near = |days: i64| {
            let first_day = today - TimeDelta::days(days);
            (first_day, first_day + TimeDelta::days(9))
        };
        let day_of = |dataset, (first_day, last_day)| Held::Day {
            dataset,
            first_day,
            last_day,
        };
        let of_feedback: Vec<&Laid> = self
            .rows
            .iter()
            .filter(|row| row.dataset == Dataset::Feedback && row.place == Place::Hot)
            .take(20)
            .collect();
        let held = match of_feedback.get(number % 20) {
            Some(row) if number > 790 => match number % 2 {
                0 => day_of(None, near(732)),
                _ => day_of(
                    Some(Dataset::Feedback),
                    (row.day.unwrap(), row.day.unwrap()),
                ),
            },
            Some(row) if number > 700 && number.is_multiple_of(3) => Held::User {
                user_id: row.user.clone(),
            },
            Some(row) if number > 700 && number % 3 == 1 => Held::Insight {
                insight_id: row.insight.clone(),
            },
            _ => match number % 4 {
                0 => day_of(Some(Dataset::Metrics), near(95)),
                1 => day_of(None, near(459)),
                2 => day_of(Some(Dataset::BackfillJobs), near(184)),
                _ => day_of(None, near(92)),
            },
        };
        let until = after(today, self.random.random_range(3..25));
        let now = start(today) + TimeDelta::hours(13);
        let retention = self.house.store.retention().unwrap();
        let placed = retention.place_hold(held.clone(), "a case", Some(start(until)), now, ACTOR);
        placed.await.unwrap();
        self.holds.push((held, until));
    }

    async fn rights(&self, wrong: Wrong, verb: &str) {
        if let Wrong::Rights(what) = wrong {
            let with = if verb == "grant" { "to" } else { "from" };
            let sql = format!("{verb} {what} {with} utxoiq_retention");
            self.house.admin.batch_execute(&sql).await.unwrap();
        }
    }

    /// A day's tick, and one before it where something is due earlier; says whether retention ran well at last.
    async fn tick(&mut self, today: NaiveDate, wrong: Wrong, is_early: bool) -> bool {
        if let Wrong::Store(request, fault) = wrong {
            self.faulty.always(request, fault);
        }
        self.rights(wrong, "revoke").await;
        let mut is_good = false;
        let before = (is_early || wrong != Wrong::Nothing).then_some(45);
        if wrong == Wrong::Nothing {
            self.roll_up_old(today).await;
        }
        for minutes in before.into_iter().chain([120]) {
            let now = start(today) + TimeDelta::minutes(minutes);
            self.house.clock.set(now);
            let tick = self.scheduler.tick(now);
            let outcomes = match wrong {
                Wrong::Killed(after) if minutes == 120 => {
                    let Ok(outcomes) =
                        tokio::time::timeout(Duration::from_millis(after), tick).await
                    else {
                        self.wait_for_the_dead().await;
                        continue;
                    };
                    outcomes
                }
                _ => tick.await,
            };
            for outcome in outcomes.unwrap() {
                let is_success = matches!(outcome.result, SlotResult::Succeeded { .. });
                if outcome.task == "run_retention" {
                    is_good = is_success && minutes == 120;
                    assert!(
                        is_success || wrong != Wrong::Nothing,
                        "{today}: {outcome:?}"
                    );
                } else {
                    assert!(is_success, "{today}: {outcome:?}");
                }
            }
        }
        self.faulty.heal();
        self.rights(wrong, "grant").await;
        is_good || wrong == Wrong::Nothing
    }

    /// An hour is rolled up when every transaction of the cluster has ended that was older than its closing: others may run
    /// here, and the schedule, which asks every minute, gets one chance a day here.
    async fn roll_up_old(&self, today: NaiveDate) {
        let sql = format!(
            "select count(*) from metric_rollup_state where rolled_before < '{}'",
            today - TimeDelta::days(60)
        );
        self.house.clock.set(start(today));
        while self.house.number(&sql).await > 0 {
            self.house
                .store
                .metrics()
                .roll_up(self.house.clock_now(), 500)
                .await
                .unwrap();
        }
    }

    /// What a run that was killed had asked of the database may be carried out still.
    async fn wait_for_the_dead(&self) {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                       and state not in ('idle', 'disabled')";
        while self.house.number(sql).await > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Where everything is to be.
    fn census(&self, place: impl Fn(&Laid) -> Place) -> Census {
        let mut census = Census::new();
        for row in &self.rows {
            // Of a job that goes on, the day is none.
            let day = row.day.unwrap_or(NaiveDate::MIN);
            census.entry((row.dataset, day)).or_default()[place(row) as usize] += row.count;
        }
        census.retain(|_, counts| *counts != [0; 3]);
        census
    }

    /// Where everything is.
    async fn found(&self) -> Census {
        let mut sql = "
            select 'metrics' as dataset, (sampled_at at time zone 'UTC')::date as day, 0 as place, count(*) as rows
            from system_metrics group by 2
            union all select 'backfill_jobs', (ended_at at time zone 'UTC')::date, 0, count(*) from backfill_jobs group by 2
            union all select 'feedback', (updated_at at time zone 'UTC')::date, 0, count(*) from insight_feedback group by 2
            union all select 'feedback_history', (occurred_at at time zone 'UTC')::date, 0, count(*) from feedback_history group by 2
            union all select dataset, day, case state when 'archived' then 1 else 2 end, sum(rows)::bigint from archives
                where state in ('archived', 'expired') group by 1, 2, 3"
            .to_owned();
        let detached = "select to_char(day, 'YYYYMMDD') from metric_days where state = 'detached'";
        for row in self.house.admin.query(detached, &[]).await.unwrap() {
            let day: String = row.get(0);
            let _ = write!(
                sql,
                " union all select 'metrics', '{day}'::date, 0, count(*) from system_metrics_{day}"
            );
        }
        let mut census = Census::new();
        for row in self.house.admin.query(&sql, &[]).await.unwrap() {
            let dataset = Dataset::from_name(row.get(0)).unwrap();
            let day: Option<NaiveDate> = row.get(1);
            let place = usize::try_from(row.get::<_, i32>(2)).unwrap();
            census
                .entry((dataset, day.unwrap_or(NaiveDate::MIN)))
                .or_default()[place] += row.get::<_, i64>(3);
        }
        census.retain(|_, counts| *counts != [0; 3]);
        census
    }

    async fn check(&mut self, today: NaiveDate, wrong: Wrong, is_good: bool) {
        let holds = &self.holds;
        let is_held = |row: &Laid| holds.iter().any(|(held, _)| keeps(held, row));
        let next = |row: &Laid| {
            if is_held(row) {
                row.place
            } else {
                row.place.max(due(row.dataset, row.day, today))
            }
        };
        let (before, due, found) = (
            self.census(|row| row.place),
            self.census(next),
            self.found().await,
        );
        if !is_good {
            assert_eq!(
                found.keys().collect::<BTreeSet<_>>(),
                due.keys().collect::<BTreeSet<_>>(),
                "{today}, {wrong:?}"
            );
            for (of, counts) in &found {
                let (was, will) = (before[of], due[of]);
                assert_eq!(
                    counts.iter().sum::<i64>(),
                    was.iter().sum::<i64>(),
                    "{today}, {wrong:?}: {of:?}"
                );
                assert!(
                    counts[0] <= was[0]
                        && counts[0] >= will[0]
                        && counts[2] >= was[2]
                        && counts[2] <= will[2],
                    "{today}, {wrong:?}: {of:?}: {counts:?}, not from {was:?} to {will:?}"
                );
            }
            return;
        }
        for of in found.keys().chain(due.keys()) {
            assert_eq!(
                found.get(of),
                due.get(of),
                "{today}, {wrong:?}: {of:?} (hot, cold, gone)"
            );
        }
        let places: Vec<_> = self.rows.iter().map(next).collect();
        for (row, place) in self.rows.iter_mut().zip(places) {
            if row.place != place {
                *self
                    .moves
                    .entry((row.dataset, ["", "cold", "gone"][place as usize]))
                    .or_default() += row.count;
            }
            row.place = place;
        }
    }

    /// Objects are there for what is cold, and for nothing else.
    async fn check_objects(&self, today: NaiveDate) {
        let sql = "select object_key from archives where state = 'archived' order by 1";
        let rows = self.house.admin.query(sql, &[]).await.unwrap();
        let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(self.house.objects(".parquet"), known, "{today}");
        assert_eq!(self.house.objects(".json").len(), known.len(), "{today}");
    }
}

/// What goes wrong on which day: never two things within a few days, and each kind more than once.
fn plan_of_wrongs(random: &mut StdRng) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut kinds = 0;
    while wrong.len() < usize::try_from(DAYS).unwrap() {
        for _ in 0..random.random_range(4..14) {
            wrong.push(Wrong::Nothing);
        }
        kinds += 1;
        let (one, days) = match kinds % 4 {
            0 => (Wrong::Away, 7),
            1 => {
                let request = [Request::Put, Request::Get, Request::Delete, Request::Head];
                let fault = [Fault::FailBefore, Fault::FailAfter, Fault::Nothing];
                let request = request[random.random_range(0..request.len())];
                let fault = fault[random.random_range(0..fault.len())];
                (Wrong::Store(request, fault), random.random_range(1..5))
            }
            2 => {
                let rights = [
                    "insert on retention_runs",
                    "select on archives",
                    "execute on function archive_begin",
                    "execute on function archive_prove",
                    "execute on function archive_detach_day",
                    "execute on function archive_drop_day",
                    "execute on function archive_delete_rows",
                    "execute on function archive_expire",
                    "execute on function archive_note_removed",
                ];
                (
                    Wrong::Rights(rights[random.random_range(0..rights.len())]),
                    1,
                )
            }
            _ => (Wrong::Killed(random.random_range(0..80)), 1),
        };
        wrong.extend(std::iter::repeat_n(one, days));
    }
    wrong
}

#[tokio::test]
async fn on_each_of_900_days_what_is_hot_cold_and_gone_is_what_the_policy_says() {
    let mut years = Years::new(StdRng::seed_from_u64(urls::seed())).await;
    let (mut good, mut last_was_good) = (0, true);
    // On every change the days until the first samples have left and come to be read from archives; overnight all of them.
    let days = urls::scale(140, DAYS);
    for number in 0..days {
        let today = after(day(FIRST), number);
        let wrong = years.wrong[usize::try_from(number).unwrap()];
        let is_good = wrong != Wrong::Away && {
            let held = years.holds.len();
            years.holds.retain(|(_, until)| *until > today);
            let is_early = years.holds.len() < held || !last_was_good;
            years.tick(today, wrong, is_early).await
        };
        years.check(today, wrong, is_good).await;
        if is_good && number % 60 == 59 {
            years.check_objects(today).await;
        }
        good += u64::from(is_good);
        years.live(today).await;
        if number % 9 == 5 && number > 90 && is_good && last_was_good {
            years.hold(usize::try_from(number).unwrap(), today).await;
        }
        last_was_good = is_good;
    }
    // One more good day: nothing is left of all that went wrong.
    let today = after(day(FIRST), days);
    years.holds.retain(|(_, until)| *until > today);
    assert!(years.tick(today, Wrong::Nothing, true).await);
    years.check(today, Wrong::Nothing, true).await;
    years.check_objects(today).await;
    years.house.assert_chain().await;
    assert_eq!(
        years.moves.len(),
        if days == DAYS { 8 } else { 1 },
        "{good} good days, moved {:?}",
        years.moves
    );
    let drift = years.house.store.feedback().drift(10).await.unwrap();
    assert!(drift.is_empty(), "{drift:?}");
}
