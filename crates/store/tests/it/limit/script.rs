//! The script itself, with a clock of the test's.

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngSeed, TestRunner},
};
use utxoiq_store::limit::script::TAKE;
use utxoiq_store_testkit::{
    RedisServer,
    redis::Reply,
    urls::{scale, seed},
};

const HOUR: i64 = 3_600_000_000;

/// A number that was answered.
pub fn number(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        other => panic!("no number: {other:?}"),
    }
}

struct Script<'a> {
    redis: &'a RedisServer,
    text: String,
    quota: usize,
}

impl<'a> Script<'a> {
    fn new(redis: &'a RedisServer, quota: usize) -> Self {
        let text = TAKE.replace("redis.call('TIME')", "{ ARGV[7], ARGV[8] }");
        assert!(text != TAKE);
        Self { redis, text, quota }
    }

    /// Admitted, used, release, and when the key was made.
    async fn take(&self, key: &str, now: i64, take: bool, owed: usize) -> (bool, i64, i64, String) {
        let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
        let arguments = [
            self.quota.to_string(),
            HOUR.to_string(),
            (HOUR / 125).to_string(),
            u8::from(take).to_string(),
            owed.to_string(),
            "3610000".to_owned(),
            seconds.to_string(),
            micros.to_string(),
        ];
        let mut command = vec!["EVAL", &self.text, "1", key];
        command.extend(arguments.iter().map(String::as_str));
        let parts = self.redis.ask(&command).await.parts();
        assert_eq!(parts.len(), 4, "{parts:?}");
        let made = String::from_utf8(parts[3].clone().bytes()).unwrap();
        (
            number(&parts[0]) == 1,
            number(&parts[1]),
            number(&parts[2]),
            made,
        )
    }
}

/// Bursts, steady calls, and pauses of up to two hours.
fn demand() -> impl Strategy<Value = Vec<i64>> {
    let gap = prop_oneof![6 => 0..3_000_i64, 3 => 0..60_000_000_i64, 1 => 0..2 * HOUR];
    prop::collection::vec((gap, 1..40_usize), 1..40).prop_map(|runs| {
        let mut now = 1_700_000_000_000_000;
        let mut times = Vec::new();
        for (gap, count) in runs {
            for _ in 0..count {
                now += gap;
                times.push(now);
            }
        }
        times
    })
}

#[tokio::test]
async fn the_script_admits_the_quota_in_any_hour_and_99_percent_of_it_at_least() {
    let redis = RedisServer::start().await;
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(seed()),
        ..Config::default()
    });
    for case in 0..scale(8, 100) {
        let quota = (1..120_usize).new_tree(&mut runner).unwrap().current();
        let demand = demand().new_tree(&mut runner).unwrap().current();
        let script = Script::new(&redis, quota);
        let key = format!("case:{case}");
        let mut admitted: Vec<i64> = Vec::new();
        let counted = |admitted: &[i64], now: i64, length: i64| {
            admitted.iter().filter(|time| **time > now - length).count()
        };
        for now in demand {
            let (is_admitted, used, release, _) = script.take(&key, now, true, 0).await;
            if is_admitted {
                admitted.push(now);
                let within = counted(&admitted, now, HOUR);
                assert!(within <= quota, "{within} of {quota}");
                assert!(usize::try_from(used).unwrap() >= within);
            } else {
                assert!(counted(&admitted, now, HOUR + HOUR / 125) >= quota);
                assert!((1..=HOUR).contains(&release), "{release}");
            }
        }
        let marks = number(&redis.ask(&["LLEN", &key]).await);
        assert!(marks <= 127, "{marks}");
    }
}

#[tokio::test]
async fn what_is_owed_counts_beyond_the_quota_and_its_end_is_told_to_the_microsecond() {
    let redis = RedisServer::start().await;
    let script = Script::new(&redis, 10);
    let begin = 1_700_000_000_000_000;
    let (_, used, release, made) = script.take("key", begin, false, 0).await;
    assert_eq!((used, release, made.as_str()), (0, 0, ""));
    assert_eq!(number(&redis.ask(&["EXISTS", "key"]).await), 0);
    let (_, used, _, made) = script.take("key", begin, false, 6).await;
    assert_eq!((used, made.as_str()), (6, "1700000000000000"));
    // 15 in all: the first six must go, and then more.
    let later = begin + HOUR / 2;
    let (is_admitted, used, release, same) = script.take("key", later, true, 9).await;
    assert_eq!((is_admitted, used, &same), (false, 15, &made));
    assert_eq!(release, HOUR / 2);
    let (is_admitted, ..) = script.take("key", later + release - 1, true, 0).await;
    assert!(!is_admitted);
    let (is_admitted, used, ..) = script.take("key", later + release, true, 0).await;
    assert_eq!((is_admitted, used), (true, 10));
    let (is_admitted, _, release, _) = script.take("key", later + HOUR / 2, true, 7).await;
    assert_eq!((is_admitted, release), (false, HOUR / 2));
    // Long after, nothing counts and the key is the same one still.
    let (is_admitted, used, _, same) = script.take("key", begin + 9 * HOUR, true, 0).await;
    assert_eq!((is_admitted, used, same), (true, 1, made));
}

#[tokio::test]
async fn a_server_whose_clock_goes_back_locks_nobody_out_for_longer_than_a_window() {
    let redis = RedisServer::start().await;
    let script = Script::new(&redis, 1);
    let begin = 1_700_000_000_000_000;
    assert!(script.take("key", begin, true, 0).await.0);
    let (is_admitted, _, release, _) = script.take("key", begin - HOUR, true, 0).await;
    assert_eq!((is_admitted, release), (false, HOUR));
    assert!(script.take("key", begin - HOUR - 1, true, 0).await.0);
}
