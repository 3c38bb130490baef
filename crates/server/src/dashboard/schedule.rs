//! The scheduled tasks: when each ran, how it ended, when it runs next; and running one now.

use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};
use std::time::Duration;
use utxoiq_store::{
    error::Error,
    schedule::{Slot, SlotState, TaskStatus},
    token::Scope,
};

use super::{
    Asked, View, Viewer, page,
    parts::{self, Tone},
};
use crate::{
    AppState,
    error::ApiResult,
    input::Path,
    routes::{Call, Routes},
};

const PATH: &str = "/dashboard/schedule";

/// How many runs of a task are shown.
const RUNS: usize = 50;

/// How long a page waits for a task that was asked for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Adds the pages and what is done on them.
pub(super) fn add(routes: Routes) -> Routes {
    let scope = Some(Scope::ScheduleRun);
    let routes = page(routes, PATH, "/dashboard/live/schedule", scope, list);
    let routes = page(
        routes,
        "/dashboard/schedule/{task}",
        "/dashboard/live/schedule/{task}",
        scope,
        one,
    );
    routes.add(
        Call::done("/dashboard/schedule/{task}/run", scope, "Run a task now"),
        run,
    )
}

async fn list(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    asked.query.finish()?;
    let tasks = state.scheduler.status(viewer.now).await?;
    let overdue = tasks.iter().filter(|task| task.overdue).count();
    let rows: Vec<Vec<Markup>> = tasks.iter().map(|task| row(task, &viewer)).collect();
    let columns = [
        "Task",
        "When",
        "State",
        "Last run",
        "Last success",
        "Next",
        "",
    ];
    Ok(View::new("Schedule").with(
        "tasks",
        html! {
            p.unseen role="status" { (overdue) " tasks are overdue" }
            section.card { (parts::table("Scheduled tasks", &columns, &rows)) }
        },
    ))
}

fn row(task: &TaskStatus, viewer: &Viewer) -> Vec<Markup> {
    vec![
        html! { a href=(address(task.task)) { (task.task) } @if !task.criterion.is_empty() { " " span.hint { (task.criterion) } } br; span.hint { (task.description) } },
        html! { (task.cadence) },
        standing(task),
        parts::ago_or(
            task.last.as_ref().map(|slot| slot.started_at),
            viewer.now,
            "never",
        ),
        parts::ago_or(task.last_success_at, viewer.now, "never"),
        parts::ago(task.next_slot_at, viewer.now),
        run_button(task.task),
    ]
}

fn run_button(task: &str) -> Markup {
    parts::action(
        &format!("{}/run", address(task)),
        "Run",
        Some(
            "It runs now, beside its schedule, in this process. Running a task twice does no harm.",
        ),
        false,
    )
}

fn standing(task: &TaskStatus) -> Markup {
    if task.overdue {
        return parts::state(Tone::Bad, "overdue");
    }
    if !task.enabled {
        return parts::state(Tone::Plain, "switched off");
    }
    task.last
        .as_ref()
        .map_or_else(|| parts::state(Tone::Plain, "waiting"), outcome)
}

fn outcome(slot: &Slot) -> Markup {
    let tone = match slot.state {
        SlotState::Running => Tone::Busy,
        SlotState::Succeeded => Tone::Good,
        SlotState::Failed => Tone::Bad,
    };
    parts::state(tone, slot.state.as_str())
}

fn address(task: &str) -> String {
    format!("{PATH}/{}", parts::encode(task))
}

/// A task's name, where there is one of it.
fn named(state: &AppState, mut path: Path) -> ApiResult<&'static str> {
    let name = path.0.name("task", 1..=100);
    path.0.finish()?;
    let task = state
        .scheduler
        .tasks()
        .iter()
        .find(|task| task.name == name);
    let unknown = || {
        Error::not_found(
            "unknown_task",
            format!("there is no task {name}; the schedule lists all that there are"),
        )
    };
    Ok(task.ok_or_else(unknown)?.name)
}

async fn one(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let name = named(&state, Path(asked.path))?;
    asked.query.finish()?;
    let tasks = state.scheduler.status(viewer.now).await?;
    let runs = state.scheduler.history(name, RUNS).await?;
    let head = tasks.iter().find(|task| task.task == name).map(|task| html! {
        section.card {
            p { (standing(task)) } p { (parts::sentence(task.description)) }
            dl.facts {
                dt { "When" } dd { (task.cadence) }
                dt { "Next" } dd { (parts::ago(task.next_slot_at, viewer.now)) }
                dt { "Last success" } dd { (parts::ago_or(task.last_success_at, viewer.now, "never")) }
                @if !task.criterion.is_empty() { dt { "Criterion" } dd { (task.criterion) } }
            }
            h3 { "Run it" } (run_button(name))
        }
    });
    let rows: Vec<Vec<Markup>> = runs.iter().map(|slot| run_row(slot, &viewer)).collect();
    let table = if rows.is_empty() {
        parts::empty(
            "It has not run yet. Due tasks are run by the service itself, or by",
            "utxoiq-store schedule tick",
        )
    } else {
        parts::table(
            "Runs, the newest first",
            &[
                "Due",
                "State",
                "Began",
                "Took",
                "#Attempts",
                "#Missed",
                "By",
                "What it says",
            ],
            &rows,
        )
    };
    Ok(View::new(name)
        .beside(html! { a.button href=(PATH) { "All tasks" } })
        .with("head", html! { @if let Some(head) = head { (head) } })
        .with("runs", parts::card("Runs", &table)))
}

fn run_row(slot: &Slot, viewer: &Viewer) -> Vec<Markup> {
    let took = slot.finished_at.map(|end| end - slot.started_at);
    let took = took.map_or_else(
        || "–".to_owned(),
        |took| {
            if took.num_seconds() < 10 {
                format!("{} ms", took.num_milliseconds())
            } else {
                parts::lasting(took)
            }
        },
    );
    let says = slot
        .error
        .clone()
        .or_else(|| slot.outcome.as_ref().map(parts::said))
        .unwrap_or_default();
    vec![
        html! { (parts::exactly(slot.slot_at)) @if slot.on_demand { " " span.hint { "by hand" } } },
        outcome(slot),
        parts::ago(slot.started_at, viewer.now),
        html! { span.one-line { (took) } },
        parts::cell(slot.attempts.to_string()),
        parts::cell(slot.missed.to_string()),
        html! { span.hint { (slot.runner) } },
        parts::long_text(&says),
    ]
}

async fn run(State(state): State<AppState>, path: Path) -> ApiResult<Response> {
    let name = named(&state, path)?;
    let (scheduler, now) = (state.scheduler.clone(), state.store.now());
    // A task of its own: who asked may go away, and what was begun has to be finished.
    let running = tokio::spawn(async move { scheduler.run_now(name, now).await });
    let done = match tokio::time::timeout(PATIENCE, running).await {
        Err(_) => "running",
        Ok(ended) => {
            let ended = ended
                .map_err(|error| Error::internal("a task ended early").with_source(error))??;
            if ended.result.is_success() {
                "ran"
            } else {
                "failed"
            }
        }
    };
    Ok(Redirect::to(&format!("{}?done={done}", address(name))).into_response())
}
