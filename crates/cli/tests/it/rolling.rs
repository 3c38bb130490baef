//! Three instances on one database, restarted one after the other under load: no request fails, nobody sees what is old,
//! and no slot of the schedule runs twice.
//!
//! Requests are sent as a balancer sends them: to instances whose `/readyz` was good when it was last asked, a tenth of a
//! second ago, each request once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use utxoiq_store_testkit::{Proc, RedisServer, ports::free_port, urls};

use crate::support::{BINARY, Service, until};

const INSTANCES: usize = 3;
const PATIENCE: Duration = Duration::from_mins(1);

/// How often the balancer asks each instance.
const ASKED_EVERY: Duration = Duration::from_millis(100);

struct Instance {
    port: u16,
    server: Mutex<Option<Proc>>,
    is_good: AtomicBool,
}

struct World {
    service: Service,
    redis: RedisServer,
    instances: Vec<Instance>,
    client: Client,
    turn: AtomicU64,
    ended: AtomicBool,
    answered: AtomicU64,
}

impl World {
    async fn start() -> Arc<Self> {
        let service = Service::start(&[]).await;
        let redis = RedisServer::start().await;
        let instances = (0..INSTANCES).map(|_| Instance {
            port: free_port(),
            server: Mutex::new(None),
            is_good: AtomicBool::new(false),
        });
        let world = Arc::new(Self {
            instances: instances.collect(),
            service,
            redis,
            client: Client::builder()
                .timeout(Duration::from_secs(20))
                .build()
                .unwrap(),
            turn: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        });
        for number in 0..INSTANCES {
            world.start_instance(number).await;
        }
        tokio::spawn(Arc::clone(&world).look_at_instances());
        world.all_good().await;
        world
    }

    async fn start_instance(&self, number: usize) {
        let instance = &self.instances[number];
        let own = [
            ("REDIS_URL", self.redis.url()),
            (
                "UTXOIQ_STORE_SERVER__SHUTDOWN_DELAY_SECONDS",
                "1".to_owned(),
            ),
            ("UTXOIQ_STORE_SCHEDULE__TICK_SECONDS", "1".to_owned()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let listen = format!("127.0.0.1:{}", instance.port);
        let server = Proc::spawn(
            BINARY,
            ["serve", "--listen", &listen],
            self.service.envs_with(&own),
        );
        let listening = |line: &str| line.contains("listening");
        let started = server.wait_for_line(listening, PATIENCE).await;
        started.unwrap_or_else(|output| panic!("an instance does not start: {output}"));
        *instance.server.lock().unwrap() = Some(server);
    }

    async fn restart(&self, number: usize) {
        let server = self.instances[number].server.lock().unwrap().take();
        let server = server.unwrap();
        server.terminate();
        let status = server.wait(PATIENCE).await;
        let ended_well = status.is_some_and(|status| status.success());
        assert!(
            ended_well,
            "it did not end as it should: {}",
            server.output()
        );
        assert!(!server.output().contains("cut off"), "{}", server.output());
        self.start_instance(number).await;
    }

    /// The balancer's view.
    async fn look_at_instances(self: Arc<Self>) {
        let asking = Client::builder()
            .timeout(Duration::from_secs(2))
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        while !self.ended.load(SeqCst) {
            for instance in &self.instances {
                let url = format!("http://127.0.0.1:{}/readyz", instance.port);
                let answer = asking.get(&url).send().await;
                let is_good = answer.is_ok_and(|answer| answer.status().is_success());
                instance.is_good.store(is_good, SeqCst);
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }

    async fn all_good(&self) {
        until("all instances are ready", async || {
            self.instances.iter().all(|one| one.is_good.load(SeqCst))
        })
        .await;
    }

    /// The next good instance's address.
    fn address(&self) -> String {
        let first = usize::try_from(self.turn.fetch_add(1, SeqCst)).unwrap();
        let next = (0..INSTANCES).map(|step| &self.instances[(first + step) % INSTANCES]);
        let good = next.into_iter().find(|one| one.is_good.load(SeqCst));
        let good = good.expect("one instance at a time is restarted");
        format!("http://127.0.0.1:{}", good.port)
    }

    /// Sends a request once. Every answer but a good one ends the test.
    async fn send(&self, request: impl Fn(&Client, String) -> RequestBuilder) -> (u64, Value) {
        let request = request(&self.client, self.address()).bearer_auth(self.service.token());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => panic!("a request failed: {error:?}"),
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.text().await.expect("an answer was cut off");
        assert_eq!(status, StatusCode::OK, "{body}");
        self.answered.fetch_add(1, SeqCst);
        let version = headers.get("store-version").and_then(|it| it.to_str().ok());
        let version = version.and_then(|it| it.parse().ok()).unwrap_or_default();
        (version, serde_json::from_str(&body).unwrap())
    }

    /// Rates and reads what was rated, each time through whichever instance is next.
    async fn rate_and_read(self: Arc<Self>, number: usize) {
        let insight = format!("insight-{number}");
        for n in 1_i64.. {
            if self.ended.load(SeqCst) {
                return;
            }
            let body = json!({ "insight_id": insight, "rating": n % 5 + 1 });
            let (version, _) = self
                .send(|client, address| {
                    let post = client.post(format!("{address}/api/v1/feedback/rate"));
                    post.header("X-User-Id", format!("u-{n}")).json(&body)
                })
                .await;
            let (_, stats) = self
                .send(|client, address| {
                    let url = format!("{address}/api/v1/feedback/stats?insight_id={insight}");
                    client.get(url).header("Store-Version", version)
                })
                .await;
            assert_eq!(stats["total_ratings"], n, "{insight}");
        }
    }

    /// Reports metrics and progress, as the platform's services do.
    async fn report(self: Arc<Self>) {
        let mut n = 0;
        while !self.ended.load(SeqCst) {
            n += 1;
            let body = json!([{ "service_name": "s", "metric_type": "t", "metric_value": n, "unit": "ms" }]);
            self.send(|client, address| {
                let url = format!("{address}/api/v1/monitoring/metrics/batch");
                client.post(url).json(&body)
            })
            .await;
            self.send(|client, address| {
                client.get(format!("{address}/api/v1/monitoring/backfill/status"))
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_instances_fails_no_request() {
    if !RedisServer::is_available() {
        println!("no Redis on this machine: nothing tested");
        return;
    }
    let world = World::start().await;
    let mut callers: Vec<_> = (0..4)
        .map(|number| tokio::spawn(Arc::clone(&world).rate_and_read(number)))
        .collect();
    callers.push(tokio::spawn(Arc::clone(&world).report()));
    for _ in 0..urls::scale(1, 20) {
        for number in 0..INSTANCES {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.restart(number).await;
            world.all_good().await;
        }
    }
    let failed = callers.iter().filter(|caller| caller.is_finished()).count();
    world.ended.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(failed, 0);
    let answered = world.answered.load(SeqCst);
    assert!(
        answered > 200,
        "only {answered} requests: that shows nothing"
    );

    // Slots come with each minute.
    let admin = world.service.admin().await;
    let slots = "select task, runner, attempts, count(*) over (partition by task, slot_at) from schedule_slots
                 where not on_demand and state = 'succeeded'";
    let mut rows = Vec::new();
    for _ in 0..90 {
        rows = admin.query(slots, &[]).await.unwrap();
        if rows.len() > 3 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut runners: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        let (task, runner, attempts): (&str, String, i32) = (row.get(0), row.get(1), row.get(2));
        assert_eq!((attempts, row.get::<_, i64>(3)), (1, 1), "{task}");
        *runners.entry(runner).or_default() += 1;
    }
    assert!(rows.len() > 3, "no slots were due");
    println!("  {answered} requests; {} slots by {runners:?}", rows.len());
}
