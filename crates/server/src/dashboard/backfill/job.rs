//! One job.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use utxoiq_store::{
    backfill::{BlockRange, Details, Gap, Job, Status},
    error::Error,
    token::Scope,
};

use super::{address, badge, rate};
use crate::{
    AppState,
    dashboard::{
        Asked, View, Viewer, parts,
        strip::{self, Piece},
    },
    error::ApiResult,
};

/// The most pieces that are drawn of a kind, and rows that are shown of a list: more could not be told apart.
const MOST: usize = 500;
const MOST_ROWS: usize = 20;

/// The page of a job.
pub(super) async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut path, .. } = asked;
    let id = path.uuid("job_id");
    path.finish()?;
    let details = state.store.backfill().details(id, viewer.now).await?;
    let details = details.ok_or_else(|| {
        Error::not_found(
            "job_not_found",
            format!("there is no backfill job {id}; the list has all that there are"),
        )
    })?;
    let job = &details.job;
    Ok(View::new(job.job_type.clone())
        .beside(html! { a.button href=(super::PATH) { "All jobs" } })
        .with("head", head(job, &viewer))
        .with("map", map(&details))
        .with("work", html! { div.columns { (claims(&details, viewer.now)) (attempts(&details, viewer.now)) } })
        .with("errors", html! { (errors(&details, viewer.now)) (checkpoints(&details, viewer.now)) }))
}

fn head(job: &Job, viewer: &Viewer) -> Markup {
    let now = viewer.now;
    let end = match job.ended_at.or(job.completed_at) {
        Some(_) => "Ended",
        None => "Will be done",
    };
    html! {
        p.unseen role="status" { "The job is " (job.status.as_str()) }
        section.card {
            p { (badge(job.status)) @if let Some(by) = &job.paused_by { " " span.hint { "paused by " (by) } } }
            @if let Some(message) = &job.error_message { p.note.bad { (message) } }
            p.big { (parts::number(job.progress_percentage)) small { " %" } }
            p { (parts::bar("Progress", job.progress_percentage, 100.0)) }
            dl.facts {
                dt { "Blocks" } dd { (parts::count(job.blocks.start)) " to " (parts::count(job.blocks.end - 1)) ", both included" }
                dt { "Finished" } dd { (parts::count(job.covered_blocks)) " of " (parts::count(job.blocks.count())) }
                dt { "First missing" } dd { @if job.covered_blocks < job.blocks.count() { (parts::count(job.current_block)) } @else { "none" } }
                dt { "Rate" } dd { @match rate(job, now) { Some(rate) => { (parts::rate(rate)) " since its start" }, None => "not known yet" } }
                dt { (end) } dd { (super::done(job, now)) }
                dt { "Started" } dd { (parts::ago(job.started_at, now)) @if let Some(by) = &job.created_by { " by " (by) } }
                dt { "Heard of" } dd { (parts::ago(job.heard_at, now)) }
                dt { "Attempt" } dd { (job.attempt) }
                dt { "Id" } dd { code { (job.id) } @if let Some(other) = &job.external_id { ", reported as " code { (other) } } }
            }
            @if viewer.may(Scope::BackfillWrite) && !job.status.is_final() { (actions(job)) }
        }
    }
}

fn actions(job: &Job) -> Markup {
    let to = |what: &str| format!("{}/{what}", address(job.id));
    html! {
        h3 { "Steer it" }
        div.actions {
            @if job.status == Status::Running { (parts::action(&to("pause"), "Pause", None, false)) }
            @if matches!(job.status, Status::Paused | Status::Failed) { (parts::action(&to("resume"), "Resume", None, false)) }
            (parts::action(&to("cancel"), "Cancel", Some("A cancelled job is over for good: its workers can record nothing more, and it cannot be resumed. What is finished stays recorded."), true))
        }
    }
}

fn map(details: &Details) -> Markup {
    let job = &details.job;
    let place = |block: i64| (block - job.blocks.start) as f64 / job.blocks.count().max(1) as f64;
    let piece = |blocks: &BlockRange, class, what: String| Piece {
        from: place(blocks.start),
        to: place(blocks.end),
        class,
        title: format!(
            "{what}: {} to {}",
            parts::count(blocks.start),
            parts::count(blocks.end - 1)
        ),
    };
    let covered = details
        .covered
        .iter()
        .take(MOST)
        .map(|blocks| piece(blocks, "covered", "finished".to_owned()));
    let claimed = details.missing.iter().take(MOST).filter_map(|gap| {
        let worker = gap.claimed_by.as_ref()?;
        Some(piece(
            &gap.blocks,
            "claimed",
            format!("claimed by {worker}"),
        ))
    });
    let pieces: Vec<Piece> = covered.chain(claimed).collect();
    let free: i64 = details
        .missing
        .iter()
        .filter(|gap| gap.claimed_by.is_none())
        .map(|gap| gap.blocks.count())
        .sum();
    let held: i64 = details
        .missing
        .iter()
        .filter(|gap| gap.claimed_by.is_some())
        .map(|gap| gap.blocks.count())
        .sum();
    let label = format!(
        "Blocks {} to {}: {} finished, {} claimed by workers, {} free",
        job.blocks.start,
        job.blocks.end - 1,
        job.covered_blocks,
        held,
        free
    );
    let rows: Vec<Vec<Markup>> = details
        .missing
        .iter()
        .take(MOST)
        .map(|gap| {
            vec![
                parts::cell(parts::count(gap.blocks.start)),
                parts::cell(parts::count(gap.blocks.end - 1)),
                parts::cell(parts::count(gap.blocks.count())),
                parts::cell(gap.claimed_by.as_deref().unwrap_or("nobody")),
            ]
        })
        .collect();
    html! {
        section.card {
            h2 { "Map of blocks" }
            (strip::strip(&label, &pieces))
            (strip::legend(&[("covered", "finished"), ("claimed", "claimed by a worker"), ("free", "missing")]))
            @if rows.is_empty() { p.hint { "Every block is finished." } }
            @else { (parts::figures("What is missing", &["#From", "#To", "#Blocks", "Claimed by"], &rows)) }
        }
    }
}

fn claims(details: &Details, now: DateTime<Utc>) -> Markup {
    let held = |gap: &&Gap| gap.claimed_by.is_some();
    let rows: Vec<Vec<Markup>> = details
        .missing
        .iter()
        .filter(held)
        .take(MOST_ROWS)
        .map(|gap| {
            vec![
                parts::cell(gap.claimed_by.clone().unwrap_or_default()),
                parts::cell(parts::count(gap.blocks.start)),
                parts::cell(parts::count(gap.blocks.end - 1)),
                parts::ago_or(gap.lease_expires_at, now, "–"),
            ]
        })
        .collect();
    let content = if rows.is_empty() && details.job.status == Status::Running {
        parts::empty(
            "No worker is at it. Start one with the type and blocks of this job:",
            &format!(
                "utxoiq-store backfill run --type {} --from {} --to {} -- ./index-blocks {{start}} {{end}}",
                details.job.job_type,
                details.job.blocks.start,
                details.job.blocks.end - 1
            ),
        )
    } else if rows.is_empty() {
        html! { p.hint { "No worker is at it." } }
    } else {
        parts::table(
            "What workers are at",
            &["Worker", "#From", "#To", "Lease ends"],
            &rows,
        )
    };
    parts::card("Claims", &content)
}

fn attempts(details: &Details, now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = details
        .attempts
        .iter()
        .rev()
        .take(MOST_ROWS)
        .map(|attempt| {
            vec![
                parts::cell(attempt.attempt.to_string()),
                parts::ago(attempt.started_at, now),
                parts::cell(parts::count(attempt.covered_blocks)),
                html! { (attempt.outcome.as_deref().unwrap_or("goes on")) " " @if let Some(at) = attempt.ended_at { span.hint { (parts::ago(at, now)) } } },
                html! { div.long { (attempt.error_message.as_deref().unwrap_or("")) } },
            ]
        })
        .collect();
    parts::card(
        "Attempts",
        &parts::table(
            "Attempts, the newest first",
            &["#No.", "Began", "#Had", "Outcome", "Error"],
            &rows,
        ),
    )
}

fn errors(details: &Details, now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = details
        .errors
        .iter()
        .take(MOST_ROWS)
        .map(|error| {
            let blocks = error.blocks.map_or_else(String::new, |blocks| {
                format!(
                    "{} – {}",
                    parts::count(blocks.start),
                    parts::count(blocks.end - 1)
                )
            });
            vec![
                parts::ago(error.occurred_at, now),
                html! { span.one-line { (blocks) } },
                parts::cell(error.worker.clone()),
                parts::cell(error.attempted.to_string()),
                html! { div.long { (error.message) } },
            ]
        })
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    parts::card(
        "Errors of chunks",
        &parts::table(
            "Errors, the newest first",
            &["When", "Blocks", "Worker", "#Try", "Message"],
            &rows,
        ),
    )
}

fn checkpoints(details: &Details, now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = details
        .checkpoints
        .iter()
        .take(5)
        .map(|one| {
            vec![
                parts::cell(parts::count(one.block)),
                html! { code.long { (one.block_hash) } },
                parts::ago(one.recorded_at, now),
            ]
        })
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    parts::card(
        "Checkpoints",
        &parts::table(
            "Checkpoints, the highest first",
            &["#Block", "Hash", "Recorded"],
            &rows,
        ),
    )
}
