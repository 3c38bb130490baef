//! Each of the 40 is broken on purpose, in a way of its own, and seen red.

mod cache;
mod kept;
mod slow;
mod world;

use std::{collections::BTreeMap, path::Path, pin::Pin};

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream};
use utxoiq_store::{
    clock::{Clock as _, FixedClock},
    slo::{CRITERIA, State},
    worker::criteria::{self, Sabotage},
};

use crate::support::TestDb;

use cache::*;
use kept::*;
use slow::*;
use world::*;

type Break = fn() -> Pin<Box<dyn Future<Output = Seen> + Send>>;

macro_rules! table {
    ($($id:literal => $break:expr,)+) => {
        [$(($id, (|| Box::pin($break)) as Break)),+]
    };
}

/// How each is broken, but for those that one probe tries: they are broken together.
fn breaks() -> Vec<(&'static str, Break)> {
    table! {
        "C1.2" => slow_progress(),
        "C1.5" => slow_job_reads(),
        "C2.1" => slow_ratings(),
        "C2.4" => slow_statistics(),
        "C3.2" => default_partition(),
        "C3.3" => slow_days(),
        "C3.5" => metrics_stay(),
        "C4.1" => redis_not_asked(),
        "C4.2" => every_read_another_insight(),
        "C4.3" => late_news(),
        "C4.4" => values_for_ever(),
        "C4.5" => no_answer_without_redis(),
        "C5.1" => other_content(),
        "C5.3" => pending_migration(),
        "C6.1" => too_many_connections(),
        "C6.2" => waiting_for_a_connection(),
        "C6.3" => idle_for_an_hour(),
        "C6.4" => no_retries(),
        "C6.5" => silent_log(),
        "C7.1" => old_jobs(),
        "C7.2" => old_feedback(),
        "C7.3" => old_archives(),
        "C7.4" => no_run_at_two(),
        "C7.5" => tampered_log(),
        "C8.1" => no_backup_at_one(),
        "C8.2" => weekly_gone(),
        "C8.3" => failed_proof(),
        "C8.4" => same_region(),
        "C8.5" => nobody_told(),
    }
    .into()
}

/// What spoils the scratch database, and the criteria that are red for it.
const SPOILT: &[(&str, &str)] = &[
    ("C1.1", "create function spoil_start() returns trigger language plpgsql as $$ begin new.status := 'paused'; new.paused_by := 'operator'; return new; end $$;
              create trigger a_spoil_start before insert on backfill_jobs for each row when (new.job_type = 'probe') execute function spoil_start()"),
    ("C1.4", "create function spoil_error() returns trigger language plpgsql as $$ begin new.error_message := 'lost'; return new; end $$;
              create trigger a_spoil_error before update on backfill_jobs for each row when (new.status = 'failed') execute function spoil_error()"),
    ("C2.2", "create function spoil_comment() returns trigger language plpgsql as $$ begin new.comment := 'forged'; return new; end $$;
              create trigger a_spoil_comment before insert on insight_feedback for each row when (new.user_id = 'probe-commenter') execute function spoil_comment()"),
    ("C2.3", "create function spoil_flag() returns trigger language plpgsql as $$ begin new.flag_reason := null; return new; end $$;
              create trigger a_spoil_flag before insert on insight_feedback for each row when (new.user_id = 'probe-flagger') execute function spoil_flag()"),
    ("C2.5", "create function spoil_rating() returns trigger language plpgsql as $$ begin new.rating := 3; return new; end $$;
              create trigger a_spoil_rating before insert on insight_feedback for each row when (new.rating = 2) execute function spoil_rating()"),
    ("C3.1", "create function spoil_series() returns trigger language plpgsql as $$ begin new.metric_type := 'other'; return new; end $$;
              create trigger a_spoil_series before insert on metric_series for each row when (new.metric_type = 'reported') execute function spoil_series()"),
    ("C3.4", "create function spoil_rollup() returns trigger language plpgsql as $$ begin new.sum := new.sum * 2; return new; end $$;
              create trigger a_spoil_rollup before insert on metric_rollups for each row execute function spoil_rollup()"),
    ("C5.5", "delete from schema_migrations where number = (select max(number) from schema_migrations)"),
];

/// Those whose way would spoil the others.
const SPOILT_ALONE: &[(&str, &str)] = &[
    ("C1.3", "create function spoil_end() returns trigger language plpgsql as $$ begin new.ended_at := new.ended_at + interval '1 hour'; return new; end $$;
              create trigger a_spoil_end before update on backfill_jobs for each row when (new.status = 'completed') execute function spoil_end()"),
    ("C5.4", "update schema_migrations set down_sql = 'select 1 / 0;' where number = (select max(number) from schema_migrations)"),
];

fn spoil_folder(folder: &Path) {
    // Half a pair: whoever makes the next one must not guess what it is.
    std::fs::write(folder.join("0099_add_half.up.sql"), "select 1;").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_forty_is_broken_and_seen_red() {
    let mut seen: BTreeMap<&str, Seen> = stream::iter(breaks())
        // In a task of its own: one that cannot go on leaves the others to be seen.
        .map(|(id, broken)| async move { Some((id, tokio::spawn(broken()).await.ok()?)) })
        .buffer_unordered(6)
        .filter_map(async |seen| seen)
        .collect()
        .await;
    seen.extend(spoilt_probes().await);
    let mut wrong = Vec::new();
    for definition in &CRITERIA {
        let Some((before, after)) = seen.get(definition.id) else {
            wrong.push(format!("{} was not broken", definition.id));
            continue;
        };
        eprintln!(
            "{} {:?} {} → {:?}",
            definition.id, before.state, before.summary, after.reason
        );
        if before.state != State::Met {
            wrong.push(format!(
                "{} was not met before: {:?}",
                definition.id, before.reason
            ));
        }
        if after.state != State::Missed || after.reason.is_none() {
            wrong.push(format!(
                "{} was not seen red: {:?} {}",
                definition.id, after.state, after.summary
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One sound probe, and then spoilt ones.
async fn spoilt_probes() -> Vec<(&'static str, Seen)> {
    let db = TestDb::new().await;
    let drill_url = db.drill_url();
    let clock = FixedClock::at(noon());
    let store = open(&db, &[("DATABASE__DRILL_URL", &drill_url)], &clock);
    criteria::probe(&store, "test", clock.now()).await.unwrap();
    let mut before = BTreeMap::new();
    for id in SPOILT
        .iter()
        .chain(SPOILT_ALONE)
        .map(|(id, _)| *id)
        .chain(["C5.2"])
    {
        before.insert(id, looked_at(&store, &clock, id).await);
    }
    let mut rounds: Vec<(Vec<&str>, Sabotage)> = SPOILT_ALONE
        .iter()
        .map(|(id, sql)| {
            (
                vec![*id],
                Sabotage {
                    sql: Some((*sql).to_owned()),
                    folder: None,
                },
            )
        })
        .collect();
    let all: Vec<&str> = SPOILT.iter().map(|(_, sql)| *sql).collect();
    let ids = SPOILT.iter().map(|(id, _)| *id).chain(["C5.2"]).collect();
    rounds.push((
        ids,
        Sabotage {
            sql: Some(all.join(";\n")),
            folder: Some(spoil_folder),
        },
    ));
    let mut seen = Vec::new();
    for (ids, sabotage) in rounds {
        clock.advance(TimeDelta::minutes(1));
        let probe = criteria::probe_with(&store, "test", clock.now(), sabotage)
            .await
            .unwrap();
        assert_eq!(probe.error, None);
        for id in ids {
            let after = looked_at(&store, &clock, id).await;
            seen.push((id, (before.remove(id).unwrap(), after)));
        }
    }
    seen
}
