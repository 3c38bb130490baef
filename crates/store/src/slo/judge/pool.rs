//! The connection pool (C6).

use chrono::TimeDelta;

use super::{Told, found, measured, of, probed, within};
use crate::{
    measure::Meter,
    slo::{Finding, Source, Verdict, evidence::Gathered},
};

/// Of what is looked at every ten seconds: nine of ten, so that 40 seconds show and a pool that is just being filled does not.
const MOSTLY: f64 = 0.9;

/// How long a process that measures itself may be without a line of the pool's figures.
const SILENT: TimeDelta = TimeDelta::minutes(3);

const MEASURED: &str = "every process that serves measures it, every few seconds";

/// C6.1.
pub fn size(gathered: &Gathered) -> Verdict {
    let told = Told {
        what: "looks found between 5 and 20 connections",
        unit: "connections",
        per_unit: 1.0,
        how: MEASURED,
    };
    let seen = super::share(gathered, Meter::PoolSize, MOSTLY, told);
    let settings = &gathered.config.database;
    let (min, max) = (settings.pool_min, settings.pool_max);
    let text = format!("the pool keeps {min} to {max} connections");
    let is_as_agreed = min >= 5 && max <= 20 && min <= max;
    let set = Finding::holds(
        is_as_agreed,
        Source::Setting,
        text.clone(),
        format!("{text}: set database.pool_min and database.pool_max to 5 and 20"),
    );
    Verdict::of(seen, [set])
}

/// C6.2.
pub fn reuse(gathered: &Gathered) -> Verdict {
    let told = Told::milliseconds(
        "connections that existed were had",
        "it is measured when somebody asks for something",
    );
    Verdict::of(within(gathered, Meter::PoolReuse, told), [])
}

/// C6.3.
pub fn idle(gathered: &Gathered) -> Verdict {
    let told = Told {
        what: "looks found no connection that was idle for longer than allowed",
        unit: "connections",
        per_unit: 1.0,
        how: MEASURED,
    };
    let seen = super::share(gathered, Meter::PoolIdleTooLong, MOSTLY, told);
    let seconds = gathered.config.database.idle_timeout_seconds;
    let text = format!("idle connections are closed after {seconds} s");
    let set = Finding::holds(
        seconds == 300,
        Source::Setting,
        text.clone(),
        format!("{text}: set database.idle_timeout_seconds to 300"),
    )
    .measuring(seconds as f64, "s");
    Verdict::of(seen, [set])
}

/// C6.4: what became of real failures, or else what a probe saw.
pub fn retries(gathered: &Gathered) -> Verdict {
    let told = Told {
        what: "failures to connect were retried",
        unit: "retries",
        per_unit: 1.0,
        how: "connecting did not fail",
    };
    let real = measured(gathered, Meter::ConnectRetries, told, 1.0);
    let retries = gathered.config.database.connect_retries;
    let text = format!("a failed attempt to connect is repeated {retries} times");
    let set = Finding::holds(
        (1..=3).contains(&retries),
        Source::Setting,
        text.clone(),
        format!("{text}: set database.connect_retries to 3"),
    );
    let probe = probed(gathered, "C6.4");
    if real.samples.is_some() {
        return Verdict::of(real, [set, probe]);
    }
    Verdict::of(probe, [set, real])
}

/// C6.5.
pub fn log(gathered: &Gathered) -> Verdict {
    let told = Told {
        what: "lines of the pool's figures came",
        unit: "s",
        per_unit: 1.0,
        how: "every process that serves writes one each minute, where log.level lets it",
    };
    let lines = measured(gathered, Meter::PoolLog, told, 0.99);
    let seconds = gathered.config.database.pool_log_interval_seconds;
    let text = format!("the pool's figures are logged every {seconds} s");
    let set = Finding::holds(
        seconds <= 60,
        Source::Setting,
        text.clone(),
        format!("{text}: set database.pool_log_interval_seconds to 60"),
    );
    Verdict::of(lines, [set, silent(gathered)])
}

/// Whether a process that measures itself has written no line for long: what does not happen is not measured.
fn silent(gathered: &Gathered) -> Finding {
    found(of(&gathered.facts, Source::Histogram).map(|facts| {
        let logged = facts.minutes(Meter::PoolLog);
        let alive = facts.minutes(Meter::PoolSize);
        let count = alive.len() as u64;
        let silent = alive.iter().filter(|(instance, (first, last))| {
            let since = logged.get(*instance).map_or(*first, |(_, logged)| *logged);
            // What a minute counts began up to a minute after its beginning.
            *last - since >= SILENT && gathered.now - *last < SILENT
        });
        let silent = silent.count();
        Finding::holds(
            silent == 0,
            Source::Histogram,
            format!("each of {count} processes that measure themselves has logged its pool lately"),
            format!("{silent} of {count} processes that serve have not logged their pools for three minutes: look at log.level"),
        )
        .of(count)
    }))
}
