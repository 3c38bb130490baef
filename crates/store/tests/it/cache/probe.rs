//! Something small to cache: a table of numbers whose changes go into the outbox, and processes that read it.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::sync::RwLock;
use utxoiq_store::{
    cache::{Cache, Figures, Key, Kind, Loaded, Space, Stale},
    db::{Pool, Snapshot, TransactionId},
};
use utxoiq_store_testkit::{FaultProxy, RedisServer};

use crate::support::TestDb;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probe(pub String);

impl Key for Probe {
    type Value = Option<i64>;
    // Counted and kept like statistics.
    const KIND: Kind = Kind::FeedbackStats;

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }

    fn stale(kind: &str, key: Option<&str>) -> Stale<Self> {
        match (kind, key) {
            ("probe", Some(key)) => Stale::Keys(vec![Self(key.to_owned())]),
            ("probe", None) => Stale::All,
            _ => Stale::Nothing,
        }
    }
}

pub fn key(text: &str) -> Probe {
    Probe(text.to_owned())
}

/// The table, with triggers as the real ones.
const TABLE: &str = "
    create table probe (id text primary key, n bigint not null);
    grant select on probe to utxoiq_app;
    create function probe_changed() returns trigger language plpgsql as $$
    begin
        if tg_op = 'TRUNCATE' then
            insert into cache_outbox (kind, key, x, written_at) values ('probe', null, pg_current_xact_id(), clock_timestamp());
            return null;
        end if;
        insert into cache_outbox (kind, key, x, written_at)
        values ('probe', case tg_op when 'DELETE' then old.id else new.id end, pg_current_xact_id(), clock_timestamp());
        return null;
    end $$;
    create trigger probe_changed after insert or update or delete on probe for each row execute function probe_changed();
    create trigger probe_truncated after truncate on probe for each statement execute function probe_changed();
    insert into probe values ('a', 1), ('b', 1);";

/// A database with the table, and a Redis.
pub struct World {
    pub db: TestDb,
    pub redis: RedisServer,
}

impl World {
    pub async fn new() -> Self {
        let world = Self {
            db: TestDb::new().await,
            redis: RedisServer::start().await,
        };
        world.sql(TABLE).await;
        world
    }

    pub async fn sql(&self, sql: &str) {
        self.db.admin().await.batch_execute(sql).await.unwrap();
    }

    /// Changes a row and gives the writing transaction.
    pub async fn set(&self, id: &str, n: i64) -> TransactionId {
        let sql = "insert into probe values ($1, $2) on conflict (id) do update set n = $2
                   returning pg_current_xact_id()::text";
        let row = self.db.admin().await.query_one(sql, &[&id, &n]).await;
        row.unwrap().get::<_, &str>(0).parse().unwrap()
    }

    /// A process that serves from both.
    pub async fn process(&self) -> Process {
        self.process_with(&[("REDIS_URL", &self.redis.url())]).await
    }

    /// A process without Redis.
    pub async fn process_alone(&self) -> Process {
        self.process_with(&[]).await
    }

    /// A process that reaches Redis through a proxy.
    pub async fn process_through(&self, proxy: &FaultProxy) -> Process {
        let url = self.redis.url_through(proxy.addr());
        self.process_with(&[("REDIS_URL", &url)]).await
    }

    #[allow(clippy::unused_async, reason = "opening spawns onto the runtime")]
    pub async fn process_with(&self, vars: &[(&str, &str)]) -> Process {
        let config = self.db.settings_with(vars);
        let pool = Pool::open(&config.database).unwrap();
        let cache = Cache::open(&config).unwrap();
        let loads = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(RwLock::new(()));
        let space = cache.space({
            let (loads, gate) = (Arc::clone(&loads), Arc::clone(&gate));
            Arc::new(move |keys: Vec<Probe>| {
                loads.fetch_add(1, SeqCst);
                let (pool, gate) = (pool.clone(), Arc::clone(&gate));
                Box::pin(async move {
                    let ids: Vec<String> = keys.into_iter().map(|key| key.0).collect();
                    let sql = "select p.n, pg_current_snapshot()::text from unnest($1::text[]) with ordinality as k (id, place)
                               left join probe p on p.id = k.id order by k.place";
                    let rows = pool.get().await?.query(sql, &[&ids]).await?;
                    let snapshot: Snapshot = rows[0].get::<_, &str>(1).parse()?;
                    // What was read may be late.
                    drop(gate.read().await);
                    Ok(Loaded {
                        values: rows.iter().map(|row| row.get(0)).collect(),
                        snapshot,
                    })
                })
            })
        });
        Process {
            cache,
            space,
            loads,
            gate,
        }
    }
}

/// One serving process.
pub struct Process {
    pub cache: Cache,
    pub space: Space<Probe>,
    loads: Arc<AtomicUsize>,
    /// Held for writing, it holds back what loads have read.
    pub gate: Arc<RwLock<()>>,
}

impl Process {
    pub async fn read(&self, id: &str) -> Option<i64> {
        self.space.get(&key(id), None).await.unwrap().value
    }

    /// How many queries it has sent.
    pub fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }

    pub fn figures(&self) -> Figures {
        self.cache.figures().swap_remove(0)
    }

    /// Reads until the value is held in this process and in Redis: the caches are warm.
    pub async fn warm(&self, id: &str) {
        let began = Instant::now();
        let fills = self.figures().fills + self.figures().hits_redis;
        while self.space.peek(&key(id)).is_none()
            || self.figures().fills + self.figures().hits_redis == fills
        {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{id} is not held: {:?}",
                self.figures()
            );
            // What is held here is let go, so that it is read from Redis or stored there.
            self.space.wrote(&key(id));
            tokio::time::sleep(Duration::from_millis(120)).await;
            self.read(id).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until reads are answered from this process.
    pub async fn warm_locally(&self, id: &str) {
        let began = Instant::now();
        while self.space.peek(&key(id)).is_none() {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{id} is not held"
            );
            self.read(id).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reads until it sees a value; fails after a second: no read may be older.
    pub async fn sees_within_a_second(&self, id: &str, n: Option<i64>) {
        let began = Instant::now();
        loop {
            let asked = began.elapsed();
            let found = self.read(id).await;
            if found == n {
                return;
            }
            assert!(
                asked < Duration::from_secs(1),
                "a read begun {asked:?} after the commit saw {found:?} instead of {n:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
