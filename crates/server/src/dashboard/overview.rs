//! The first page: how everything stands, in one look. It shows what the visitor may see, and looks up nothing else.

use chrono::{DateTime, Days, Utc};
use maud::{Markup, html};
use utxoiq_store::{
    alert,
    backfill::{JobFilter, Status},
    backup::Outcome,
    cache::CacheState,
    token::Scope,
};

use super::{
    Asked, View, Viewer, backfill, cache,
    chart::{Chart, Line},
    metrics, page,
    parts::{self, Card, Tone},
};
use crate::{AppState, error::ApiResult, routes::Routes};

/// How many days of ratings are drawn.
const DAYS: Days = Days::new(30);

/// Adds the page.
pub(super) fn add(routes: Routes) -> Routes {
    page(routes, "/", "/dashboard/live/overview", None, view)
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    asked.query.finish()?;
    let mut cards = vec![readiness(&state)];
    if viewer.may(Scope::SloRead) {
        cards.push(criteria(&state, viewer.now).await);
    }
    if viewer.may(Scope::AlertsRead) {
        cards.push(alerts(&state).await?);
    }
    if viewer.may(Scope::BackupsRead) {
        cards.extend(backups(&state, viewer.now).await?);
    }
    if viewer.may(Scope::ScheduleRun) {
        cards.push(tasks(&state, viewer.now).await?);
    }
    if viewer.may(Scope::PoolRead) {
        cards.push(hit_rate(&state));
        cards.push(pool(&state, viewer.now));
    }
    if viewer.may(Scope::MetricsRead) {
        cards.push(samples(&state));
        cards.push(degradations(&state, viewer.now).await?);
    }
    let mut below = Vec::new();
    if viewer.may(Scope::StatsRead) {
        let (card, drawing) = ratings(&state, viewer.now).await?;
        cards.push(card);
        below.push(drawing);
    }
    if viewer.may(Scope::BackfillRead) {
        let (card, list) = jobs(&state, viewer.now).await?;
        cards.insert(1, card);
        below.insert(0, list);
    }
    let is_alone = cards.len() == 1;
    Ok(View::new("Overview")
        .with("cards", html! { div.cards { @for card in cards { (card) } } })
        .with("below", html! {
            div.columns { @for part in below { (part) } }
            @if is_alone {
                section.card { (parts::empty("Your token has no scope that this page shows more of. An administrator makes one that has some:", "utxoiq-store token create --name my-dashboard --scopes backfill:read,stats:read,metrics:read,pool:read")) }
            }
        }))
}

fn readiness(state: &AppState) -> Markup {
    let (word, note) = match state.readiness.says() {
        Ok(()) if state.store.cache().probe() == CacheState::Down => (
            parts::state(Tone::Warning, "degraded"),
            "Redis is away: the database answers everything".to_owned(),
        ),
        Ok(()) => (
            parts::state(Tone::Good, "ready"),
            "the database answers, the schema fits".to_owned(),
        ),
        Err((_, why)) => (parts::state(Tone::Bad, "not ready"), why),
    };
    Card {
        name: "Service",
        link: None,
        figure: word,
        note: html! { (note) },
    }
    .draw()
}

async fn criteria(state: &AppState, now: DateTime<Utc>) -> Markup {
    let report = state.store.slo().report(now, None).await;
    let counts = report.counts;
    let badge = match counts.missed {
        0 => parts::state(Tone::Good, "none missed"),
        missed => parts::state(Tone::Bad, &format!("{missed} missed")),
    };
    Card {
        name: "Criteria met",
        link: Some("/dashboard/criteria"),
        figure: html! { (counts.met) small { " of " (report.criteria.len()) } },
        note: html! { (badge) " " (counts.unknown) " not judged yet" },
    }
    .draw()
}

async fn alerts(state: &AppState) -> ApiResult<Markup> {
    let store = &state.store;
    let open = store
        .alerts()
        .list(store.pool(), alert::Filter::Open, 100, 0)
        .await?
        .alerts;
    let critical = open
        .iter()
        .filter(|one| one.alert.severity == alert::Severity::Critical)
        .count();
    let taken = open
        .iter()
        .filter(|one| one.alert.acknowledged_at.is_some())
        .count();
    let tone = match (open.len(), critical) {
        (0, _) => Tone::Good,
        (_, 0) => Tone::Warning,
        _ => Tone::Bad,
    };
    let word = if open.is_empty() {
        "none"
    } else if critical > 0 {
        "critical"
    } else {
        "warning"
    };
    Ok(Card {
        name: "Open alerts",
        link: Some("/dashboard/alerts"),
        figure: html! { (open.len()) " " (parts::state(tone, word)) },
        note: html! { (critical) " critical, " (taken) " taken" },
    }
    .draw())
}

async fn backups(state: &AppState, now: DateTime<Utc>) -> ApiResult<Vec<Markup>> {
    let backups = state.store.backups();
    let listed = backups.list(false, 60, 0).await?;
    let sound = || {
        listed
            .iter()
            .filter(|one| one.damaged_at.is_none() && one.pruned_at.is_none())
    };
    let of = |name, at: Option<DateTime<Utc>>, hours: i64, what| {
        let tone = at.map_or(Tone::Bad, |at| {
            if (now - at).num_hours() <= hours {
                Tone::Good
            } else {
                Tone::Warning
            }
        });
        let word = at.map_or("never", |at| {
            if (now - at).num_hours() <= hours {
                "in time"
            } else {
                "late"
            }
        });
        let note = html! { @if backups.is_configured() { (parts::state(tone, word)) " " (what) } @else { "not configured here" } };
        Card {
            name,
            link: Some("/dashboard/backups"),
            figure: parts::ago_or(at, now, "never"),
            note,
        }
        .draw()
    };
    let verified = sound().filter_map(|one| one.verified_at).max();
    // What was proved may have been pruned since: that backups can be restored was seen all the same.
    let proofs = backups.proofs(10).await?;
    let proved = proofs
        .iter()
        .find(|proof| proof.outcome == Some(Outcome::Proved));
    let proved = proved.map(|proof| proof.started_at);
    Ok(vec![
        of("Last verified backup", verified, 26, "read back, equal"),
        of("Last proved backup", proved, 24 * 8, "restored, compared"),
    ])
}

async fn tasks(state: &AppState, now: DateTime<Utc>) -> ApiResult<Markup> {
    let tasks = state.scheduler.status(now).await?;
    let overdue = tasks.iter().filter(|task| task.overdue).count();
    let next = tasks
        .iter()
        .filter(|task| task.enabled)
        .min_by_key(|task| task.next_slot_at);
    let (tone, word) = if overdue == 0 {
        (Tone::Good, "on time")
    } else {
        (Tone::Bad, "late")
    };
    Ok(Card {
        name: "Overdue tasks",
        link: Some("/dashboard/schedule"),
        figure: html! { (overdue) " " (parts::state(tone, word)) },
        note: html! { @if let Some(next) = next { "next: " (next.task) " " (parts::ago(next.next_slot_at, now)) } },
    }
    .draw())
}

fn hit_rate(state: &AppState) -> Markup {
    let figures = state.store.cache().figures();
    let hits = figures
        .iter()
        .map(|kind| kind.hits_local + kind.hits_redis)
        .sum::<u64>();
    let reads = hits + figures.iter().map(|kind| kind.misses).sum::<u64>();
    let (tone, word) = cache::word(state.store.cache().probe());
    Card {
        name: "Cache hits",
        link: Some("/dashboard/cache"),
        figure: html! { @if reads == 0 { "–" } @else { (parts::percent(hits as f64 / reads as f64)) } },
        note: html! { (parts::state(tone, word)) " of " (parts::count(reads)) " reads" },
    }
    .draw()
}

fn pool(state: &AppState, now: DateTime<Utc>) -> Markup {
    let pool = state.store.pool().snapshot(now);
    let tone = if pool.waiting > 0 {
        Tone::Warning
    } else {
        Tone::Good
    };
    let word = if pool.waiting > 0 {
        "waiting"
    } else {
        "nobody waits"
    };
    Card {
        name: "Connections",
        link: Some("/dashboard/pool"),
        figure: html! { (pool.active) small { " of " (pool.max) " active" } },
        note: html! { (parts::state(tone, word)) " " (pool.idle) " idle" },
    }
    .draw()
}

fn samples(state: &AppState) -> Markup {
    let looks = state.live.history().looks();
    let last = looks.last();
    let before = last.and_then(|last| {
        looks
            .iter()
            .rev()
            .find(|look| last.at - look.at >= 60)
            .or(looks.first())
    });
    let rate = last.zip(before).and_then(|(last, before)| {
        let seconds = last.at - before.at;
        (seconds > 0).then(|| (last.samples - before.samples) as f64 * 60.0 / seconds as f64)
    });
    let waiting = state.store.metrics_intake().snapshot().waiting;
    Card {
        name: "Samples a minute",
        link: Some("/dashboard/metrics"),
        figure: html! { @match rate { Some(rate) => (parts::number(rate)), None => "–" } },
        note: html! { "taken in by this process; " (parts::count(waiting)) " wait" },
    }
    .draw()
}

async fn degradations(state: &AppState, now: DateTime<Utc>) -> ApiResult<Markup> {
    let found = metrics::degradations(state, now).await?;
    let (figure, note) = match &*found {
        Some(found) => {
            let bad = found.degradations.len();
            let (tone, word) = if bad == 0 {
                (Tone::Good, "as ever")
            } else {
                (Tone::Warning, "worse")
            };
            (
                html! { (bad) " " (parts::state(tone, word)) },
                html! { (found.judged) " series judged, the last hour" },
            )
        }
        None => (html! { "–" }, html! { "too many series to judge at once" }),
    };
    Ok(Card {
        name: "Degraded metrics",
        link: Some("/dashboard/metrics"),
        figure,
        note,
    }
    .draw())
}

async fn ratings(state: &AppState, now: DateTime<Utc>) -> ApiResult<(Markup, Markup)> {
    let today = now.date_naive();
    let to = today.succ_opt().unwrap_or(today);
    let from = to.checked_sub_days(DAYS).unwrap_or(to);
    let days = state.store.feedback().trend(None, from, to).await?;
    let last = days.last();
    let count = last.map_or(0, |day| day.ratings);
    let average = last.and_then(utxoiq_store::feedback::TrendDay::average_rating);
    let card = Card {
        name: "Ratings today",
        link: Some("/dashboard/feedback"),
        figure: html! { (parts::count(count)) @if let Some(average) = average { small { " ★ " (format!("{average:.2}")) } } },
        note: html! { (parts::many(last.map_or(0, |day| day.comments), "comment")) ", " (parts::many(last.map_or(0, |day| day.flags), "flag")) },
    };
    let at = |day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    let chart = Chart {
        title: "Ratings a day",
        description: format!("The last 30 days; {count} today"),
        span: at(from)..at(today),
        band: None,
        lines: vec![Line {
            name: "ratings a day",
            points: days
                .iter()
                .map(|day| (at(day.day), Some(day.ratings as f64)))
                .collect(),
        }],
        from_zero: true,
    };
    let rows: Vec<Vec<Markup>> = days
        .iter()
        .rev()
        .map(|day| {
            vec![
                parts::cell(parts::day(day.day)),
                parts::cell(parts::count(day.ratings)),
            ]
        })
        .collect();
    let drawing = parts::card(
        "Ratings, the last 30 days",
        &html! { (chart.draw()) (parts::figures("Ratings by day", &["Day", "#Ratings"], &rows)) },
    );
    Ok((card.draw(), drawing))
}

async fn jobs(state: &AppState, now: DateTime<Utc>) -> ApiResult<(Markup, Markup)> {
    let filter = JobFilter {
        status: Some(Status::Running),
        job_type: None,
        limit: 50,
        offset: 0,
    };
    let running = state.store.backfill().list(&filter).await?;
    let rate: f64 = running
        .iter()
        .filter_map(|job| backfill::rate(job, now))
        .sum();
    let card = Card {
        name: "Jobs running",
        link: Some("/dashboard/backfill?state=running"),
        figure: html! { (running.len()) },
        note: html! { (parts::rate(rate)) " blocks in all" },
    };
    let rows: Vec<Vec<Markup>> = running
        .iter()
        .take(6)
        .map(|job| {
            vec![
                html! { a href=(backfill::address(job.id)) { (job.job_type) } },
                parts::bar("Progress", job.progress_percentage, 100.0),
                parts::cell(format!("{} %", parts::number(job.progress_percentage))),
                parts::ago_or(job.estimated_completion, now, "not known"),
            ]
        })
        .collect();
    let list = if rows.is_empty() {
        parts::empty(
            "No job is running. The newest ones are on the page of backfills.",
            "",
        )
    } else {
        parts::table(
            "Running jobs",
            &["Job", "Progress", "#Covered", "Done"],
            &rows,
        )
    };
    Ok((card.draw(), parts::card("Backfill, running", &list)))
}
