//! Random writes of every kind from several processes and psql, while others fold and read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
};

use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio_postgres::Client;
use utxoiq_store::{
    Kind, Store,
    feedback::{Counts, Fact, FlagType},
};
use utxoiq_store_testkit::urls;

use super::{assert_no_drift, at, counts, days};
use crate::support::TestDb;

const INSIGHTS: usize = 5;
const USERS_A_WRITER: usize = 4;

/// One user's facts.
#[derive(Debug, Clone, Default, PartialEq)]
struct Facts {
    rating: Option<i16>,
    comment: bool,
    flag: Option<FlagType>,
}

/// What there should be, of one writer's users. By insight and user.
type Model = BTreeMap<(String, String), Facts>;

/// Writes of one task for users of its own, so that it knows what there is.
struct Writer {
    stores: [Store; 2],
    psql: Client,
    random: StdRng,
    number: usize,
    model: Model,
    grown: Arc<Grown>,
}

/// The ratings of one insight that are only added: how many were begun and acknowledged.
#[derive(Default)]
struct Grown {
    begun: AtomicI64,
    acknowledged: AtomicI64,
}

impl Writer {
    fn pick(&mut self) -> (String, String) {
        let insight = self.random.random_range(0..INSIGHTS);
        let user = self.random.random_range(0..USERS_A_WRITER);
        (format!("i{insight}"), format!("u{}-{user}", self.number))
    }

    fn flag_type(&mut self) -> FlagType {
        FlagType::ALL[self.random.random_range(0..5)]
    }

    async fn act(&mut self, turn: i64) {
        let key = self.pick();
        // Clocks of processes differ.
        let now = at(turn + self.random.random_range(-5..5));
        match self.random.random_range(0..12) {
            0..6 => self.by_a_process(key, now).await,
            6..8 => self.withdraw(key, now).await,
            8 => self.by_upsert(key).await,
            9 => self.of_all_insights(key.1).await,
            10 => self.delete(key).await,
            _ => self.moved(key).await,
        }
        self.grow(turn, now).await;
    }

    async fn by_a_process(&mut self, key: (String, String), now: chrono::DateTime<chrono::Utc>) {
        let which = self.random.random_range(0..2);
        let store = self.stores[which].clone();
        let (insight, user) = (&*key.0, &*key.1);
        let mut facts = self.model.get(&key).cloned().unwrap_or_default();
        let kind = self.random.random_range(0..4);
        let written = match kind {
            0 | 1 => {
                let rating = self.random.random_range(1..=5);
                let comment = (kind == 1).then_some("a comment");
                facts.rating = Some(rating);
                facts.comment |= kind == 1;
                store
                    .feedback()
                    .rate(insight, user, rating, comment, now)
                    .await
            }
            2 => {
                facts.comment = true;
                store
                    .feedback()
                    .comment(insight, user, "another", now)
                    .await
            }
            _ => {
                let kind = self.flag_type();
                facts.flag = Some(kind);
                store
                    .feedback()
                    .flag(insight, user, kind, Some("why"), now)
                    .await
            }
        };
        let entry = written.unwrap().entry;
        let answered = Facts {
            rating: entry.rating,
            comment: entry.comment.is_some(),
            flag: entry.flag_type,
        };
        assert_eq!(
            answered, facts,
            "each answer is the row as its write left it"
        );
        self.model.insert(key, facts);
    }

    async fn withdraw(&mut self, key: (String, String), now: chrono::DateTime<chrono::Utc>) {
        let fact = Fact::ALL[self.random.random_range(0..3)];
        let result = self.stores[0]
            .feedback()
            .withdraw(&key.0, &key.1, fact, now)
            .await;
        let facts = self.model.entry(key.clone()).or_default();
        let was_there = match fact {
            Fact::Rating => facts.rating.take().is_some(),
            Fact::Comment => std::mem::take(&mut facts.comment),
            Fact::Flag => facts.flag.take().is_some(),
        };
        match result {
            Ok(_) => assert!(was_there),
            Err(error) => assert_eq!(
                (error.kind(), was_there),
                (Kind::NotFound, false),
                "{error:?}"
            ),
        }
        if *facts == Facts::default() {
            self.model.remove(&key);
        }
    }

    async fn by_upsert(&mut self, key: (String, String)) {
        let rating = self.random.random_range(1..=5);
        let sql = format!(
            "begin isolation level repeatable read; savepoint s;
             insert into insight_feedback (insight_id, user_id, rating) values ('{0}', '{1}', {rating})
             on conflict (insight_id, user_id) do update set rating = excluded.rating;
             delete from insight_feedback where user_id = '{1}'; rollback to s;
             insert into insight_feedback (insight_id, user_id, rating) values ('{0}', '{1}', {rating})
             on conflict (insight_id, user_id) do update set rating = excluded.rating; commit",
            key.0, key.1
        );
        self.psql.batch_execute(&sql).await.unwrap();
        self.model.entry(key).or_default().rating = Some(rating);
    }

    /// One statement over many insights.
    async fn of_all_insights(&mut self, user: String) {
        let rating = self.random.random_range(1..=5);
        let sql = format!(
            "update insight_feedback set rating = {rating}, comment = null where user_id = '{user}' and insight_id <> 'grown'"
        );
        self.psql.batch_execute(&sql).await.unwrap();
        for (_, facts) in self.model.iter_mut().filter(|(key, _)| key.1 == user) {
            facts.rating = Some(rating);
            facts.comment = false;
        }
    }

    async fn delete(&mut self, key: (String, String)) {
        let sql = format!(
            "delete from insight_feedback where insight_id = '{}' and user_id = '{}'",
            key.0, key.1
        );
        self.psql.batch_execute(&sql).await.unwrap();
        self.model.remove(&key);
    }

    /// Feedback goes to another insight, in the place of what was there.
    async fn moved(&mut self, key: (String, String)) {
        let target = self.pick().0;
        if target == key.0 {
            return;
        }
        let sql = format!(
            "begin; delete from insight_feedback where insight_id = '{target}' and user_id = '{1}';
             update insight_feedback set insight_id = '{target}' where insight_id = '{0}' and user_id = '{1}'; commit",
            key.0, key.1
        );
        self.psql.batch_execute(&sql).await.unwrap();
        let moved = self.model.remove(&key);
        let target = (target, key.1);
        self.model.remove(&target);
        self.model.extend(moved.map(|facts| (target, facts)));
    }

    async fn grow(&mut self, turn: i64, now: chrono::DateTime<chrono::Utc>) {
        let user = format!("{}-{turn}", self.number);
        self.grown.begun.fetch_add(1, SeqCst);
        let rated = self.stores[1]
            .feedback()
            .rate("grown", &user, 5, None, now)
            .await;
        rated.unwrap();
        self.grown.acknowledged.fetch_add(1, SeqCst);
    }
}

/// Reads until it is told to stop: never less than what was acknowledged before, never more than what was begun after.
async fn read(store: Store, grown: Arc<Grown>, stop: Arc<AtomicBool>) -> i64 {
    let ids: Vec<String> = (0..INSIGHTS)
        .map(|n| format!("i{n}"))
        .chain(["grown".to_owned()])
        .collect();
    let mut reads = 0;
    while !stop.load(SeqCst) {
        let acknowledged = grown.acknowledged.load(SeqCst);
        let loaded = store.feedback().load_stats(&ids).await.unwrap();
        let begun = grown.begun.load(SeqCst);
        let total = loaded.stats[INSIGHTS].live.total_ratings();
        assert!(
            (acknowledged..=begun).contains(&total),
            "{acknowledged} ≤ {total} ≤ {begun}"
        );
        for stats in &loaded.stats {
            let Counts {
                ratings,
                comments,
                flags,
            } = stats.live;
            assert!(
                ratings
                    .iter()
                    .chain(&flags)
                    .chain([&comments])
                    .all(|n| *n >= 0),
                "{stats:?}"
            );
        }
        reads += 1;
    }
    reads
}

async fn fold(store: Store, part: i64, stop: Arc<AtomicBool>) -> i64 {
    let mut folded = 0;
    while !stop.load(SeqCst) {
        folded += store.feedback().fold_in_parts(part).await.unwrap().deltas;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    folded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_storm_of_writes_and_in_it_the_statistics_are_exact() {
    let seed = urls::seed();
    let turns = i64::try_from(urls::scale(120, 3_000)).unwrap();
    let db = TestDb::new().await;
    let stores = [db.store().await, db.store().await];
    let (grown, stop) = (Arc::new(Grown::default()), Arc::new(AtomicBool::new(false)));
    let readers = stores
        .clone()
        .map(|store| tokio::spawn(read(store, Arc::clone(&grown), Arc::clone(&stop))));
    let folders = [(0, 50_000), (1, 3)]
        .map(|(n, part)| tokio::spawn(fold(stores[n].clone(), part, Arc::clone(&stop))));
    let mut writers = Vec::new();
    for number in 0..6 {
        let mut writer = Writer {
            stores: stores.clone(),
            psql: db.admin().await,
            random: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
            number,
            model: Model::new(),
            grown: Arc::clone(&grown),
        };
        writers.push(tokio::spawn(async move {
            for turn in 0..turns {
                writer.act(turn).await;
            }
            writer.model
        }));
    }
    let mut model = Model::new();
    for written in join_all(writers).await {
        model.extend(written.unwrap());
    }
    stop.store(true, SeqCst);
    let reads: i64 = join_all(readers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    let folded: i64 = join_all(folders)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    eprintln!("{reads} reads, {folded} deltas folded by the two that only fold");
    assert!(reads > 20);

    assert_no_drift(&stores[0]).await;
    for insight in model
        .keys()
        .map(|(insight, _)| insight)
        .collect::<BTreeSet<_>>()
    {
        assert_eq!(
            counts(&stores[0], insight).await,
            of_model(&model, insight),
            "{insight}"
        );
    }
    assert_eq!(counts(&stores[1], "grown").await.total_ratings(), 6 * turns);
    assert_history(&db.admin().await).await;
    stores[0].feedback().fold().await.unwrap();
    assert_no_drift(&stores[0]).await;
}

fn of_model(model: &Model, insight: &str) -> Counts {
    let mut counts = Counts::default();
    for (_, facts) in model.iter().filter(|(key, _)| key.0 == insight) {
        if let Some(rating) = facts.rating {
            counts.ratings[usize::try_from(rating - 1).unwrap()] += 1;
        }
        counts.comments += i64::from(facts.comment);
        if let Some(flag) = facts.flag {
            let place = FlagType::ALL.iter().position(|kind| *kind == flag);
            counts.flags[place.unwrap()] += 1;
        }
    }
    counts
}

/// Every fact that is there is the last of its history, and the days are the history's.
async fn assert_history(admin: &Client) {
    let wrong = "select f.insight_id || ' ' || f.user_id from insight_feedback f
        cross join lateral (values ('rating', f.rating::text), ('comment', f.comment), ('flag', f.flag_type)) as fact (name, value)
        where fact.value is not null and fact.value is distinct from (
            select coalesce(h.rating::text, h.comment, h.flag_type) from feedback_history h
            where h.user_id = f.user_id and h.insight_id = f.insight_id and h.fact = fact.name order by h.id desc limit 1)
        -- What was moved has its history where it came from.
        and exists (select from feedback_history h
                    where h.user_id = f.user_id and h.insight_id = f.insight_id and h.fact = fact.name and h.occurred_at >= f.updated_at)";
    assert!(admin.query(wrong, &[]).await.unwrap().is_empty());
    let of_history = "select concat_ws(' ', insight_id, (occurred_at at time zone 'UTC')::date, count(rating), coalesce(sum(rating), 0),
                             count(comment), count(flag_type),
                             count(*) filter (where rating is null and comment is null and flag_type is null))
                      from feedback_history group by insight_id, (occurred_at at time zone 'UTC')::date order by 1";
    let rows = admin.query(of_history, &[]).await.unwrap();
    let of_history: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(days(admin).await, of_history);
}
