//! The cache (C4).

use std::time::Duration;

use super::{Told, found, number, of, percent, probed, share, share_of, within};
use crate::{
    cache::{CacheState, Kind, Life},
    measure::Meter,
    slo::{Finding, Source, Verdict, evidence::Gathered},
};

/// From how many reads on a share of them says something.
const ENOUGH: u64 = 100;

/// What C4.2 asks for.
const HIT_RATE: f64 = 0.9;

/// C4.1.
pub fn redis_first(gathered: &Gathered) -> Verdict {
    let told = Told {
        what: "reads that no process answered from its memory asked Redis before the database",
        unit: "",
        per_unit: 1.0,
        how: "it is measured when somebody reads what is cached",
    };
    let asked = match gathered.redis {
        CacheState::Off => Finding::unknown(Source::Setting, "Redis is not used: set redis.url"),
        CacheState::Up | CacheState::Down => share(gathered, Meter::RedisFirst, 0.99, told),
    };
    Verdict::of(asked, [])
}

/// C4.2.
pub fn hit_rate(gathered: &Gathered) -> Verdict {
    Verdict::of(found(of(&gathered.facts, Source::Histogram).map(|facts| {
        let facts = facts.of(Meter::StatsHit);
        let count = facts.window.count();
        if count < ENOUGH {
            return Finding::unknown(
                Source::Histogram,
                format!("{count} reads of statistics in the last {} h: a share is told from {ENOUGH} on", gathered.window.num_hours()),
            )
            .of(count);
        }
        let in_window = share_of(&facts.window, Meter::StatsHit);
        let is_enough = facts.present.count() >= ENOUGH;
        let present = if is_enough { share_of(&facts.present, Meter::StatsHit) } else { 1.0 };
        let mut text = format!("{} % of {count} reads of statistics came from a cache", number(percent(in_window)));
        if present < HIT_RATE {
            text = format!("{text}, in the last five minutes {} % of {}", number(percent(present)), facts.present.count());
        }
        let worst = in_window.min(present);
        Finding::holds(worst >= HIT_RATE, Source::Histogram, text.clone(), text)
            .measuring(percent(worst), "%")
            .of(count)
            .from(facts.first_at)
    })), [])
}

/// C4.3.
pub fn invalidation(gathered: &Gathered) -> Verdict {
    let told = Told {
        what: "changes gone from the caches",
        unit: "ms",
        per_unit: 1.0,
        how: "it is measured when something that is cached changes",
    };
    Verdict::of(within(gathered, Meter::Invalidation, told), [])
}

/// C4.4: the settings, and what lies in Redis.
pub fn ttls(gathered: &Gathered) -> Verdict {
    let cache = &gathered.config.cache;
    let (metrics, feedback) = (cache.metrics_ttl_seconds, cache.feedback_ttl_seconds);
    let text = format!("metrics are kept for {metrics} s, feedback statistics for {feedback} s");
    let set = Finding::holds(
        metrics == 300 && feedback == 3_600,
        Source::Setting,
        text.clone(),
        format!(
            "{text}: set cache.metrics_ttl_seconds to 300 and cache.feedback_ttl_seconds to 3600"
        ),
    )
    .measuring(metrics as f64, "s");
    let lives = found(of(&gathered.lives, Source::Rows).map(|lives| in_redis(lives)));
    Verdict::of(set, [lives])
}

/// Whether what lies in Redis ends when it should.
fn in_redis(lives: &[Life]) -> Finding {
    let allowed = |kind: Kind| match kind {
        Kind::FeedbackStats => Duration::from_hours(1),
        _ => Duration::from_mins(5),
    };
    let count = lives.len() as u64;
    if count == 0 {
        return Finding::unknown(Source::Rows, "no value was found in Redis");
    }
    let is_long = |life: &&Life| life.left.is_none_or(|left| left > allowed(life.kind));
    let long = lives.iter().find(is_long).map(|life| {
        let ends = life.left.map_or("never ends".to_owned(), |left| {
            format!("ends only in {} s", left.as_secs())
        });
        format!("a value of {} in Redis {ends}", life.kind.as_str())
    });
    let longest = lives
        .iter()
        .filter_map(|life| life.left)
        .max()
        .unwrap_or_default();
    Finding::holds(
        long.is_none(),
        Source::Rows,
        format!(
            "{count} values in Redis end in time, the last of them in {} s",
            longest.as_secs()
        ),
        long.unwrap_or_default(),
    )
    .of(count)
}

/// C4.5: what was answered while Redis was away, or else what a probe without Redis could do.
pub fn without_redis(gathered: &Gathered) -> Verdict {
    let told = Told {
        what: "reads were answered while Redis was away",
        unit: "",
        per_unit: 1.0,
        how: "Redis was not away",
    };
    // One that was not answered is an interruption.
    let answered = share(gathered, Meter::WithoutRedis, 1.0, told);
    let probe = probed(gathered, "C4.5");
    if answered.samples.is_some() {
        return Verdict::of(answered, [probe]);
    }
    Verdict::of(probe, [answered])
}
