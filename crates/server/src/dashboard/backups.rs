//! Backups (C8): what is kept and why, what was proved, and how long a restore takes.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Days, NaiveDate, Utc};
use maud::{Markup, html};
use utxoiq_store::{
    backup::{
        Backup, Outcome, Proof, Pruned, State, policy::Reason, region::Judgement, watch::Place,
    },
    token::Scope,
};

use super::{
    Asked, View, Viewer,
    parts::{self, Card, Tone},
    still_page,
};
use crate::{AppState, error::ApiResult, routes::Routes};

const PATH: &str = "/dashboard/backups";

/// How many runs and proofs are shown.
const RUNS: i64 = 45;
const RUNS_SHOWN: usize = 14;
const PROOFS: i64 = 12;

/// How many weeks the calendar has.
const WEEKS: u64 = 6;

/// Adds the page.
pub(super) fn add(routes: Routes) -> Routes {
    still_page(routes, PATH, Some(Scope::BackupsRead), view)
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    asked.query.finish()?;
    let (backups, now) = (state.store.backups(), viewer.now);
    let runs = backups.list(true, RUNS, 0).await?;
    let proofs = backups.proofs(PROOFS).await?;
    if !backups.is_configured() {
        return Ok(View::new("Backups")
            .with("none", html! { section.card { (parts::empty("This process does not know where backups lie. Make a pair of keys, and set backup.recipients and backup_store.url:", "utxoiq-store backup keygen")) } })
            .with("runs", history(&runs, now)));
    }
    // The store may be away: what the history says is shown all the same.
    let kept = backups.plan_prune(now).await;
    let places = backups.places().await;
    let plan = match &kept {
        Ok(kept) => html! { (calendar(kept, &runs, now.date_naive())) (reasons(kept, now)) },
        Err(error) => {
            html! { p.note.warning { "What is kept cannot be told, because the store of backups does not answer: " (error.message()) } }
        }
    };
    Ok(View::new("Backups")
        .with("cards", cards(&runs, &proofs, &places, now))
        .with("kept", plan)
        .with("proofs", proved(&proofs, now))
        .with("runs", history(&runs, now)))
}

fn cards(runs: &[Backup], proofs: &[Proof], places: &[Place], now: DateTime<Utc>) -> Markup {
    let sound = || {
        runs.iter()
            .filter(|one| one.damaged_at.is_none() && one.pruned_at.is_none())
    };
    let last = sound()
        .filter(|one| one.verified_at.is_some())
        .max_by_key(|one| one.started_at);
    let proved = proofs
        .iter()
        .find(|proof| proof.outcome == Some(Outcome::Proved));
    let restore = proved.and_then(|proof| proof.restore_milliseconds);
    html! {
        div.cards {
            (Card { name: "Last verified", link: None, figure: parts::ago_or(last.map(|one| one.started_at), now, "never"), note: html! { @if let Some(one) = last { (parts::bytes(one.stored_bytes)) ", " (parts::count(one.rows)) " rows" } } }.draw())
            (Card { name: "Last proved", link: None, figure: parts::ago_or(proved.map(|proof| proof.started_at), now, "never"), note: html! { "restored and compared, row by row" } }.draw())
            (Card { name: "A restore takes (RTO)", link: None, figure: html! { @match restore { Some(millis) => (parts::milliseconds(millis)), None => "–" } }, note: html! { "as measured by the last proof" } }.draw())
            @for place in places { (located(place)) }
        }
    }
}

fn located(place: &Place) -> Markup {
    let (figure, note) = match &place.judgement {
        Judgement::Separate => (parts::state(Tone::Good, "another region"), String::new()),
        Judgement::Same { reason } => (parts::state(Tone::Bad, "same region"), reason.clone()),
        Judgement::CannotJudge { reason } => {
            (parts::state(Tone::Warning, "not known"), reason.clone())
        }
    };
    Card {
        name: place.store,
        link: None,
        figure,
        note: html! { (note) },
    }
    .draw()
}

/// Weeks as rows, days as columns: what was made on each day, and whether it is kept.
fn calendar(kept: &[Pruned], runs: &[Backup], today: NaiveDate) -> Markup {
    let mut days: BTreeMap<NaiveDate, Vec<&Pruned>> = BTreeMap::new();
    for one in kept {
        days.entry(one.backup.started_at.date_naive())
            .or_default()
            .push(one);
    }
    let monday = today - Days::new(today.weekday().num_days_from_monday().into());
    let first = monday - Days::new(7 * (WEEKS - 1));
    let cell = |day: NaiveDate| -> Markup {
        if day > today {
            return html! {};
        }
        let of: &[&Pruned] = days.get(&day).map(Vec::as_slice).unwrap_or_default();
        if let Some(one) = of.iter().find(|one| one.verdict.keep).or(of.first()) {
            return html! { (held(one)) };
        }
        let run = runs.iter().find(|run| run.started_at.date_naive() == day);
        match run.map(|run| run.state) {
            Some(State::Pruned) => parts::state(Tone::Plain, "gone"),
            Some(State::Failed | State::Abandoned) => parts::state(Tone::Bad, "failed"),
            Some(State::Running) => parts::state(Tone::Busy, "running"),
            _ => html! { span.hint { "–" } },
        }
    };
    let weeks = (0..WEEKS).rev().map(|week| first + Days::new(7 * week));
    let rows: Vec<Vec<Markup>> = weeks
        .map(|monday| {
            let days = (0..7).map(|day| monday + Days::new(day)).map(
                |day| html! { span.hint { (day.format("%-d %b").to_string()) } br; (cell(day)) },
            );
            std::iter::once(html! { (monday.format("W%V").to_string()) })
                .chain(days)
                .collect()
        })
        .collect();
    parts::card(
        "Calendar",
        &parts::calendar(
            "Backups by day",
            &["Week", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
            &rows,
        ),
    )
}

/// In a word, for what it is kept.
fn held(one: &Pruned) -> Markup {
    if !one.verdict.keep {
        return parts::state(Tone::Plain, "to go");
    }
    let has = |wanted: fn(&Reason) -> bool| one.verdict.reasons.iter().any(wanted);
    if has(|reason| matches!(reason, Reason::Suspect)) {
        parts::state(Tone::Bad, "suspect")
    } else if has(|reason| matches!(reason, Reason::Weekly { .. })) {
        parts::state(Tone::Good, "weekly")
    } else if has(|reason| matches!(reason, Reason::Daily { .. })) {
        parts::state(Tone::Good, "daily")
    } else {
        parts::state(Tone::Busy, "kept")
    }
}

fn reasons(kept: &[Pruned], now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = kept
        .iter()
        .map(|one| {
            let why = one
                .verdict
                .reasons
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            let backup = &one.backup;
            vec![
                parts::ago(backup.started_at, now),
                if one.verdict.keep {
                    parts::state(Tone::Good, "kept")
                } else {
                    parts::state(Tone::Plain, "to go")
                },
                html! { div.long { (parts::sentence(&why)) } },
                parts::cell(parts::bytes(backup.stored_bytes)),
                parts::ago_or(backup.verified_at, now, "not verified"),
                parts::ago_or(backup.proved_at, now, "not proved"),
                parts::ago_or(backup.copied_at, now, "no copy"),
            ]
        })
        .collect();
    let table = if rows.is_empty() {
        parts::empty(
            "There is no backup. The first one is made at 01:00 UTC, or now by",
            "utxoiq-store backup create",
        )
    } else {
        parts::table(
            "What is kept and why",
            &[
                "Made", "State", "Why", "#Size", "Verified", "Proved", "Copied",
            ],
            &rows,
        )
    };
    parts::card("What is kept, and why", &table)
}

fn proved(proofs: &[Proof], now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = proofs
        .iter()
        .map(|proof| {
            let (tone, word) = match proof.outcome {
                Some(Outcome::Proved) => (Tone::Good, "proved"),
                Some(other) => (Tone::Bad, other.as_str()),
                None => (Tone::Busy, "running"),
            };
            let took = |millis: Option<i64>| {
                parts::cell(millis.map_or_else(|| "–".to_owned(), parts::milliseconds))
            };
            vec![
                parts::ago(proof.started_at, now),
                parts::state(tone, word),
                parts::ago(proof.backup_started_at, now),
                took(proof.restore_milliseconds),
                took(proof.compare_milliseconds),
                parts::long_text(proof.error.as_deref().unwrap_or_default()),
            ]
        })
        .collect();
    let table = if rows.is_empty() {
        parts::empty(
            "No backup was proved yet. It is done weekly, where the drill's key is, or now by",
            "utxoiq-store backup drill",
        )
    } else {
        parts::table(
            "Proofs, the newest first",
            &[
                "When",
                "Outcome",
                "Of the backup made",
                "#Restore",
                "#Compare",
                "Error",
            ],
            &rows,
        )
    };
    parts::card("Proofs", &table)
}

fn history(runs: &[Backup], now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = runs
        .iter()
        .take(RUNS_SHOWN)
        .map(|run| {
            let tone = match run.state {
                State::Verified => Tone::Good,
                State::Running => Tone::Busy,
                State::Stored => Tone::Warning,
                State::Failed | State::Abandoned => Tone::Bad,
                State::Pruned => Tone::Plain,
            };
            vec![
                parts::ago(run.started_at, now),
                parts::state(tone, run.state.as_str()),
                parts::cell(parts::bytes(run.stored_bytes)),
                parts::cell(parts::count(run.rows)),
                parts::cell(run.started_by.clone()),
                parts::long_text(run.error.as_deref().unwrap_or_default()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    parts::card(
        "Runs",
        &parts::table(
            "Runs, the newest first",
            &["Began", "State", "#Size", "#Rows", "By", "Error"],
            &rows,
        ),
    )
}
