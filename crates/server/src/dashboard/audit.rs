//! The audit log (C7.5): who did what that cannot be undone, and whether the chain holds.

use maud::{Markup, html};
use utxoiq_store::{
    audit::{Action, Cursor, Filter, Record, hex},
    token::Scope,
};

use super::{
    Asked, View, Viewer, layout,
    parts::{self, Card, Tone},
    still_page,
};
use crate::{AppState, error::ApiResult, input::Input, routes::Routes};

const PATH: &str = "/dashboard/audit";
const LIMIT: i64 = 50;

/// Adds the pages.
pub(super) fn add(routes: Routes) -> Routes {
    let scope = Some(Scope::AuditRead);
    still_page(
        still_page(routes, PATH, scope, list),
        "/dashboard/audit/verify",
        scope,
        verify,
    )
}

/// What was asked for, as it is shown again.
#[derive(Default)]
struct Wanted {
    action: String,
    subject: String,
    actor: String,
    from: String,
    to: String,
}

/// Reads text, and refuses by a word's own message.
fn parsed<T: std::str::FromStr<Err = utxoiq_store::Error>>(
    query: &mut Input,
    field: &str,
    text: &str,
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    let read = text.parse::<T>();
    if let Err(error) = &read {
        let message = error
            .field_errors()
            .first()
            .map_or("is none", |wrong| wrong.message.as_str());
        query.refuse(field, message);
    }
    read.ok()
}

fn read(query: &mut Input) -> (Wanted, Filter, Option<Cursor>) {
    let action = query.optional_text("action", 1..=50).unwrap_or_default();
    let cursor = query.optional_text("cursor", 1..=100).unwrap_or_default();
    let (from, to) = (query.optional_day("from"), query.optional_day("to"));
    let wanted = Wanted {
        subject: query
            .optional_text("subject", 1..=1_000)
            .unwrap_or_default(),
        actor: query.optional_text("actor", 1..=200).unwrap_or_default(),
        from: from.map_or_else(String::new, parts::day),
        to: to.map_or_else(String::new, parts::day),
        action,
    };
    let filter = Filter {
        action: parsed::<Action>(query, "action", &wanted.action),
        subject_prefix: Some(wanted.subject.clone()).filter(|text| !text.is_empty()),
        actor: Some(wanted.actor.clone()).filter(|text| !text.is_empty()),
        from: from.map(parts::begin),
        // The last day is meant as a whole.
        to: to.map(|day| parts::begin(day.succ_opt().unwrap_or(day))),
    };
    let cursor = parsed::<Cursor>(query, "cursor", &cursor);
    (wanted, filter, cursor)
}

async fn list(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let (wanted, filter, cursor) = read(&mut query);
    query.finish()?;
    let audit = state.store.audit();
    let head = audit.head().await?;
    let found = audit.list(&filter, LIMIT, cursor).await?;
    let conditions = layout::encoded(&[
        ("action", &wanted.action),
        ("subject", &wanted.subject),
        ("actor", &wanted.actor),
        ("from", &wanted.from),
        ("to", &wanted.to),
    ]);
    let later = found.next.map(|next| format!("cursor={next}"));
    let earlier = cursor.is_some().then(String::new);
    let rows: Vec<Vec<Markup>> = found
        .entries
        .iter()
        .map(|entry| row(entry, &viewer))
        .collect();
    let table = if rows.is_empty() {
        parts::empty("No entry is like this.", "utxoiq-store audit list")
    } else {
        parts::table(
            "Entries, the newest first",
            &["#No.", "When", "What", "To what", "By", "Details"],
            &rows,
        )
    };
    Ok(View::new("Audit log")
        .with("head", html! {
            div.cards {
                (Card { name: "Entries", link: None, figure: html! { (parts::count(head.sequence)) }, note: html! { "the head of the chain" } }.draw())
                (Card { name: "Whether the chain holds", link: Some("/dashboard/audit/verify"), figure: html! { a.button href="/dashboard/audit/verify" { "Verify now" } }, note: html! { "reads the whole log" } }.draw())
            }
        })
        .with("conditions", form(&wanted))
        .with("entries", html! { section.card { (table) (parts::pager(PATH, &conditions, earlier.as_deref(), later.as_deref())) } }))
}

fn form(wanted: &Wanted) -> Markup {
    let actions: Vec<(&str, &str)> = std::iter::once(("", "any"))
        .chain(Action::ALL.iter().map(|one| (one.as_str(), one.as_str())))
        .collect();
    html! {
        form.conditions method="get" action=(PATH) {
            (parts::choice("action", "What was done", &actions, &wanted.action))
            (parts::field("subject", "To what (begins with)", "search", &wanted.subject))
            (parts::field("actor", "By", "search", &wanted.actor))
            (parts::field("from", "From", "date", &wanted.from))
            (parts::field("to", "To, included", "date", &wanted.to))
            button type="submit" { "Search" }
            a.button href=(PATH) { "Clear" }
        }
    }
}

fn row(record: &Record, viewer: &Viewer) -> Vec<Markup> {
    vec![
        parts::cell(parts::count(record.sequence)),
        parts::ago_or(
            record
                .at_microseconds
                .and_then(chrono::DateTime::from_timestamp_micros),
            viewer.now,
            "no time",
        ),
        html! { span.one-line { (record.action) } },
        html! { div.long { (record.subject) } },
        html! { div.long { (record.actor) } },
        html! { details { summary { "Details" } pre { (record.details) } p.hint.long { "hash " code { (hex(&record.hash)) } } } },
    ]
}

async fn verify(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    asked.query.finish()?;
    let found = state.store.audit().verify(&[]).await?;
    let badge = if found.is_clean() {
        parts::state(Tone::Good, "the chain holds")
    } else {
        parts::state(Tone::Bad, "broken")
    };
    let rows: Vec<Vec<Markup>> = found
        .faults
        .iter()
        .map(|fault| vec![parts::cell(parts::sentence(&fault.to_string()))])
        .collect();
    Ok(View::new("Audit log, verified")
        .beside(html! { a.button href=(PATH) { "All entries" } })
        .with("verdict", html! {
            section.card {
                p { (badge) }
                dl.facts {
                    dt { "Read" } dd { (parts::count(found.entries)) " entries, " (parts::ago(viewer.now, viewer.now)) }
                    @if let Some(head) = &found.head { dt { "Head" } dd { "no. " (parts::count(head.sequence)) ", " code { (hex(&head.hash)) } } }
                    dt { "Faults" } dd { (parts::count(found.faults_total)) }
                }
                @if !rows.is_empty() { (parts::table("Faults", &["What is wrong"], &rows)) }
                p.hint { "Whether entries were cut off at the end shows only beside a head that was kept elsewhere:" }
                pre data-copy { "utxoiq-store audit verify" }
            }
        }))
}
