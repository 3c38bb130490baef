//! Whoever writes by SQL is served like a caller: the statistics are right in every process within a second (C4.3).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_postgres::{Client, types::ToSql};

use super::{
    has_redis,
    history::Stats,
    sql,
    world::{Base, Kind, World, insight_name},
};

const PROCESSES: usize = 3;
const WITHIN: Duration = Duration::from_secs(1);
/// How long an answer must stay right: an old value may be stored by a slow fill after a new one was seen.
const STAYS: Duration = Duration::from_millis(150);

struct Case<'a> {
    world: &'a World,
    owner: Client,
    expected: BTreeMap<String, Stats>,
    took: Vec<(&'static str, Duration)>,
}

impl Case<'_> {
    /// Fills every cache, changes rows by SQL, and waits until every process tells the new figures; none may tell an old
    /// one when it is asked a second after the commit.
    async fn change(
        &mut self,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        then: &[(usize, [u64; 5])],
    ) {
        // Once is a miss, twice a hit, in both layers.
        for _ in 0..3 {
            assert_eq!(self.wrong().await, None, "before {what}");
        }
        let changed = self.owner.execute(sql, parameters).await.unwrap();
        let committed = Instant::now();
        assert!(
            changed > 0 || sql.starts_with("truncate"),
            "{what} changed nothing"
        );
        for (insight, stats) in then {
            self.expected.insert(insight_name(*insight), Stats(*stats));
        }
        let mut right_since = None;
        loop {
            let asked = Instant::now();
            match self.wrong().await {
                None => {
                    let since = *right_since.get_or_insert(asked);
                    if since.elapsed() > STAYS {
                        self.took.push((what, since.duration_since(committed)));
                        return;
                    }
                }
                Some(wrong) => {
                    assert!(
                        asked.duration_since(committed) < WITHIN,
                        "a second after {what}: {wrong}"
                    );
                    right_since = None;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The first process and insight with other figures than expected.
    async fn wrong(&self) -> Option<String> {
        for server in 0..PROCESSES {
            for (insight, expected) in &self.expected {
                let answer = self.world.stats(server, insight, None).await;
                if answer != Ok(*expected) {
                    return Some(format!(
                        "server {server} tells {answer:?} of {insight} instead of {expected}"
                    ));
                }
            }
        }
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_psql_changes_is_right_in_every_process_within_a_second() {
    if !has_redis() {
        return;
    }
    let base = Base::start().await;
    let world = World::start(&base, Kind::Product, PROCESSES, 0).await;
    let mut case = Case {
        world: &world,
        owner: world.owner().await,
        expected: (0..3)
            .map(|insight| (insight_name(insight), Stats::default()))
            .collect(),
        took: Vec::new(),
    };
    let (first, second) = (insight_name(0), insight_name(1));
    let users: Vec<String> = (0..4).map(|user| format!("user-{user}")).collect();
    let ratings: Vec<i16> = vec![5, 5, 4, 1];
    case.change(
        "INSERT",
        sql::RATE_MANY,
        &[&first, &users, &ratings],
        &[(0, [1, 0, 0, 1, 2])],
    )
    .await;
    case.change(
        "INSERT elsewhere",
        sql::RATE,
        &[&second, &"user-9", &3_i16],
        &[(1, [0, 0, 1, 0, 0])],
    )
    .await;
    case.change(
        "UPDATE",
        sql::CORRECT,
        &[&first, &"user-3", &2_i16],
        &[(0, [0, 1, 0, 1, 2])],
    )
    .await;
    case.change(
        "UPDATE to another insight",
        sql::MOVE,
        &[&first, &"user-0", &second],
        &[(0, [0, 1, 0, 1, 1]), (1, [0, 0, 1, 0, 1])],
    )
    .await;
    case.change(
        "DELETE",
        sql::REMOVE,
        &[&first, &"user-2"],
        &[(0, [0, 1, 0, 0, 1])],
    )
    .await;
    case.change(
        "TRUNCATE",
        "truncate insight_feedback",
        &[],
        &[(0, [0; 5]), (1, [0; 5])],
    )
    .await;
    case.change(
        "INSERT after TRUNCATE",
        sql::RATE,
        &[&first, &"user-0", &1_i16],
        &[(0, [1, 0, 0, 0, 0])],
    )
    .await;
    println!("right everywhere after {:?}", case.took);
}
