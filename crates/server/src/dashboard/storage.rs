//! Where data is by day: in the database, in archives, held, or gone (C7); what a run of retention would do, and what it did.

use chrono::{DateTime, NaiveDate, Utc};
use maud::{Markup, html};
use utxoiq_store::{
    cold::Dataset,
    retention::{
        Action, ArchiveFilter, ArchiveView, Held, Hold, Plan, Retention, Run, State, Whereabouts,
    },
    token::Scope,
};

use super::{
    Asked, View, Viewer,
    parts::{self, Card, Tone},
    still_page,
    strip::{self, Piece},
};
use crate::{AppState, error::ApiResult, routes::Routes};

const PATH: &str = "/dashboard/storage";

/// How many archives are read for the strip, and shown.
const ARCHIVES: i64 = 1_000;
const SHOWN: usize = 20;

const DATASETS: &[(&str, Dataset); 4] = &[
    ("metrics", Dataset::Metrics),
    ("backfill_jobs", Dataset::BackfillJobs),
    ("feedback", Dataset::Feedback),
    ("feedback_history", Dataset::FeedbackHistory),
];

/// Adds the page.
pub(super) fn add(routes: Routes) -> Routes {
    still_page(routes, PATH, Some(Scope::RetentionRead), view)
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let dataset = query
        .optional_one_of("dataset", DATASETS)
        .unwrap_or(Dataset::Metrics);
    let day = query.optional_day("day");
    query.finish()?;
    let retention = match state.store.retention() {
        Ok(retention) => retention,
        Err(error) => {
            return Ok(View::new("Storage").with("none", html! { section.card { (parts::empty(&parts::sentence(error.message()), "utxoiq-store config example")) } }));
        }
    };
    let today = viewer.now.date_naive();
    let plan = retention.plan(today).await?;
    let holds = retention.holds().await?;
    let seen = Seen::read(&retention, &plan, dataset, today).await?;
    let runs = retention.runs(10).await?;
    let found = match day {
        Some(day) => retention.where_is(day, Some(dataset)).await?,
        None => Vec::new(),
    };
    Ok(View::new("Storage")
        .with("days", html! { (tabs(dataset)) (seen.draw(&holds)) (look_up(dataset, day)) @for one in &found { (whereabouts(one, viewer.now)) } })
        .with("plan", html! { div.columns { (next(&plan)) (held(&holds, viewer.now)) } })
        .with("archives", archives(&seen.archives, viewer.now))
        .with("runs", ran(&runs, viewer.now)))
}

fn tabs(chosen: Dataset) -> Markup {
    html! { ul.tabs { @for (word, dataset) in DATASETS { li { a href=(format!("{PATH}?dataset={word}")) aria-current=[(*dataset == chosen).then_some("true")] { (word.replace('_', " ")) } } } } }
}

/// A dataset's days.
struct Seen {
    dataset: Dataset,
    today: NaiveDate,
    hot_from: NaiveDate,
    cold_from: NaiveDate,
    /// In the order of days.
    archives: Vec<ArchiveView>,
}

impl Seen {
    async fn read(
        retention: &Retention<'_>,
        plan: &Plan,
        dataset: Dataset,
        today: NaiveDate,
    ) -> ApiResult<Self> {
        let line = plan.boundaries.iter().find(|line| line.dataset == dataset);
        let (hot_from, cold_from) =
            line.map_or((today, today), |line| (line.hot_from, line.cold_from));
        let filter = ArchiveFilter {
            dataset: Some(dataset),
            from: Some(cold_from),
            ..ArchiveFilter::default()
        };
        let archives = retention.archives(&filter, ARCHIVES, None).await?.archives;
        Ok(Self {
            dataset,
            today,
            hot_from,
            cold_from,
            archives,
        })
    }

    fn is_cold(archive: &ArchiveView) -> bool {
        matches!(archive.state, State::Archived | State::Detached)
    }

    /// The strip of days.
    fn draw(&self, holds: &[Hold]) -> Markup {
        let first = self
            .archives
            .first()
            .map_or(self.cold_from, |archive| archive.day.min(self.cold_from));
        let first = first - chrono::Days::new(14);
        let long = (self.today - first).num_days() + 1;
        let place = |day: NaiveDate| (day - first).num_days() as f64 / long.max(1) as f64;
        let piece = |from: NaiveDate, to: NaiveDate, class, title: String| Piece {
            from: place(from.max(first)),
            to: place(to),
            class,
            title,
        };
        let after = |day: NaiveDate| day.succ_opt().unwrap_or(day);
        let gone = piece(
            first,
            self.cold_from,
            "gone",
            format!("gone: before {}", self.cold_from),
        );
        let hot = piece(
            self.hot_from,
            after(self.today),
            "hot",
            format!("in the database: from {}", self.hot_from),
        );
        let cold = self.archives.iter().filter(|one| Self::is_cold(one));
        let cold = cold.map(|one| {
            piece(
                one.day,
                after(one.day),
                "cold",
                format!(
                    "{}: archived, {} rows",
                    one.day,
                    parts::count(one.rows.unwrap_or_default())
                ),
            )
        });
        let held = holds.iter().filter_map(|hold| match &hold.held {
            Held::Day {
                dataset,
                first_day,
                last_day,
            } if dataset.is_none_or(|of| of == self.dataset) && *last_day >= first => Some(piece(
                *first_day,
                after((*last_day).min(self.today)),
                "held",
                format!("held: {first_day} to {last_day}, {}", hold.reason),
            )),
            _ => None,
        });
        let pieces: Vec<Piece> = [gone, hot].into_iter().chain(cold).chain(held).collect();
        let days = self
            .archives
            .iter()
            .filter(|one| Self::is_cold(one))
            .map(|one| one.day)
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        let (rows, bytes) = self.archives.iter().filter(|one| Self::is_cold(one)).fold(
            (0, 0),
            |(rows, bytes), one| {
                (
                    rows + one.rows.unwrap_or_default(),
                    bytes + one.bytes.unwrap_or_default(),
                )
            },
        );
        let label = format!(
            "Days from {first} to {}: in the database from {}, {days} days in archives, gone before {}",
            self.today, self.hot_from, self.cold_from
        );
        html! {
            div.cards {
                (Card { name: "In the database", link: None, figure: html! { (parts::count((self.today - self.hot_from).num_days() + 1)) small { " days" } }, note: html! { "from " (self.hot_from) " on" } }.draw())
                (Card { name: "In archives", link: None, figure: html! { (parts::count(days)) small { " days" } }, note: html! { (parts::count(rows)) " rows, " (parts::bytes(bytes)) } }.draw())
                (Card { name: "Gone", link: None, figure: html! { (self.cold_from) }, note: html! { "what is older has ended" } }.draw())
            }
            section.card {
                h2 { "By day" }
                (strip::strip(&label, &pieces))
                p.hint { (first) " to " (self.today) }
                (strip::legend(&[("hot", "in the database (hot)"), ("cold", "in an archive (cold)"), ("held", "under a legal hold"), ("gone", "gone"), ("free", "nothing there")]))
            }
        }
    }
}

fn look_up(dataset: Dataset, day: Option<NaiveDate>) -> Markup {
    html! {
        form.conditions method="get" action=(PATH) {
            input type="hidden" name="dataset" value=(dataset.name());
            (parts::field("day", "Where is the day", "date", &day.map_or_else(String::new, parts::day)))
            button type="submit" { "Look it up" }
        }
    }
}

fn whereabouts(one: &Whereabouts, now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = one
        .proof
        .iter()
        .map(|entry| {
            vec![
                parts::cell(parts::count(entry.sequence)),
                parts::ago(entry.at, now),
                parts::cell(entry.action.clone()),
                parts::cell(entry.actor.clone()),
                html! { div.long { (entry.reason.as_deref().unwrap_or_default()) } },
            ]
        })
        .collect();
    let content = html! {
        p { b { (one.place.name()) } ": " (parts::count(one.hot_rows)) " rows in the database, " (parts::count(one.cold_rows)) " in archives" }
        @if !rows.is_empty() { (parts::table("What the audit log says of it", &["#No.", "When", "What", "By", "Why"], &rows)) }
    };
    parts::card(&format!("{} of {}", one.dataset, one.day), &content)
}

fn next(plan: &Plan) -> Markup {
    let rows: Vec<Vec<Markup>> = plan
        .steps
        .iter()
        .take(SHOWN)
        .map(|step| {
            let (tone, word) = match step.action {
                Action::Archive => (Tone::Busy, "archive"),
                Action::Expire => (Tone::Warning, "delete"),
                Action::Keep => (Tone::Plain, "keep"),
            };
            vec![
                parts::state(tone, word),
                parts::cell(step.dataset.name()),
                html! { span.one-line { (step.day) } },
                parts::cell(parts::count(step.rows)),
                html! { div.long { (parts::sentence(&step.reason)) } },
            ]
        })
        .collect();
    let content = if rows.is_empty() {
        parts::empty(
            "Nothing is due. Policies run daily at 02:00 UTC; what they would do on another day says",
            "utxoiq-store retention plan --as-of 2030-01-01T02:00:00Z",
        )
    } else {
        html! { (parts::table("What a run would do now", &["Step", "Dataset", "Day", "#Rows", "Why"], &rows)) @if plan.steps.len() > SHOWN { p.hint { "and " (plan.steps.len() - SHOWN) " more" } } }
    };
    parts::card("What a run would do now", &content)
}

fn held(holds: &[Hold], now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = holds
        .iter()
        .take(SHOWN)
        .map(|hold| {
            let what = match &hold.held {
                Held::Day {
                    dataset,
                    first_day,
                    last_day,
                } => format!(
                    "{}, {first_day} to {last_day}",
                    dataset.map_or("all datasets", |dataset| dataset.name())
                ),
                Held::User { user_id } => format!("user {user_id}"),
                Held::Insight { insight_id } => format!("insight {insight_id}"),
            };
            vec![
                html! { div.long { (what) } },
                html! { div.long { (hold.reason) } },
                html! { (parts::ago(hold.placed_at, now)) " by " (hold.placed_by) },
                parts::ago_or(hold.expires_at, now, "until released"),
            ]
        })
        .collect();
    let content = if rows.is_empty() {
        parts::empty(
            "Nothing is held. A hold keeps days, a user's or an insight's data beyond their time:",
            "utxoiq-store retention hold add --help",
        )
    } else {
        parts::table("Legal holds", &["What", "Why", "Placed", "Ends"], &rows)
    };
    parts::card("Legal holds", &content)
}

fn archives(archives: &[ArchiveView], now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = archives
        .iter()
        .rev()
        .take(SHOWN)
        .map(|one| {
            let tone = match one.state {
                State::Archived => Tone::Good,
                State::Writing | State::Proved | State::Detached => Tone::Busy,
                State::Abandoned => Tone::Warning,
                _ => Tone::Plain,
            };
            vec![
                html! { span.one-line { (one.day) } },
                parts::cell(one.part.to_string()),
                parts::state(tone, one.state.name()),
                parts::cell(one.rows.map_or_else(|| "–".to_owned(), parts::count)),
                parts::cell(one.bytes.map_or_else(|| "–".to_owned(), parts::bytes)),
                parts::ago_or(one.proved_at, now, "–"),
                html! { div.long { code { (one.object) } } },
            ]
        })
        .collect();
    let content = if rows.is_empty() {
        parts::empty("There is no archive of these days.", "")
    } else {
        parts::table(
            "Archives, the newest day first",
            &[
                "Day",
                "#Part",
                "State",
                "#Rows",
                "#Size",
                "Read back",
                "Object",
            ],
            &rows,
        )
    };
    parts::card("Archives", &content)
}

fn ran(runs: &[Run], now: DateTime<Utc>) -> Markup {
    let rows: Vec<Vec<Markup>> = runs
        .iter()
        .map(|run| {
            let (tone, word) = match run.outcome.as_deref() {
                Some("success") => (Tone::Good, "success"),
                Some("failed") => (Tone::Bad, "failed"),
                Some(_) => (Tone::Warning, "lost"),
                None => (Tone::Busy, "running"),
            };
            let took = run.ended_at.map_or_else(
                || "–".to_owned(),
                |end| parts::milliseconds((end - run.began_at).num_milliseconds()),
            );
            vec![
                parts::cell(run.id.to_string()),
                parts::ago(run.began_at, now),
                parts::state(tone, word),
                parts::cell(took),
                parts::cell(run.began_by.clone()),
            ]
        })
        .collect();
    let content = if rows.is_empty() {
        parts::empty(
            "No run was made yet. Policies run daily at 02:00 UTC, or now by",
            "utxoiq-store retention run",
        )
    } else {
        parts::table(
            "Runs, the newest first",
            &["#No.", "Began", "Outcome", "#Took", "By"],
            &rows,
        )
    };
    parts::card("Runs of retention", &content)
}
