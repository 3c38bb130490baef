//! The search (C2.5): by user, insight, dates, rating, flag and comment.

use maud::{Markup, html};
use utxoiq_store::feedback::{Cursor, Entry, Filter, FlagFilter, FlagType, Page};

use super::{SEARCH, address, stars, tabs};
use crate::{
    AppState,
    api::feedback::in_order,
    dashboard::{Asked, View, Viewer, layout, parts},
    error::ApiResult,
    input::Input,
};

const LIMIT: i64 = 50;

const FLAGS: &[(&str, FlagFilter); 6] = &[
    ("any", FlagFilter::Any),
    ("inaccurate", FlagFilter::Of(FlagType::Inaccurate)),
    ("misleading", FlagFilter::Of(FlagType::Misleading)),
    ("spam", FlagFilter::Of(FlagType::Spam)),
    ("inappropriate", FlagFilter::Of(FlagType::Inappropriate)),
    ("other", FlagFilter::Of(FlagType::Other)),
];

const COMMENTS: &[(&str, bool); 2] = &[("with", true), ("without", false)];

/// What was asked for, and its words as they are shown again.
struct Wanted {
    filter: Filter,
    words: [(&'static str, String); 7],
    after: Option<Cursor>,
}

fn read(query: &mut Input) -> Wanted {
    let (from, to) = (query.optional_day("from"), query.optional_day("to"));
    let rating = query.optional_int("rating", 1..=5);
    let flag = query.optional_one_of("flag", FLAGS);
    let comment = query.optional_one_of("comment", COMMENTS);
    let cursor = query.optional_text("cursor", 1..=600);
    let after = cursor.and_then(|text| {
        let read = text.parse::<Cursor>();
        if read.is_err() {
            query.refuse("cursor", "must be the one of the link to more");
        }
        read.ok()
    });
    let filter = Filter {
        user_id: query.optional_name("user", 1..=100),
        insight_id: query.optional_name("insight", 1..=100),
        from: from.map(parts::begin),
        // The last day is meant as a whole.
        to: to.map(|day| parts::begin(day.succ_opt().unwrap_or(day))),
        rating: rating.and_then(|rating| i16::try_from(rating).ok()),
        flag,
        has_comment: comment,
    };
    let word =
        |choice: Option<&&'static str>| choice.map(|word| (*word).to_owned()).unwrap_or_default();
    let flag_word = FLAGS
        .iter()
        .find(|one| Some(one.1) == flag)
        .map(|one| &one.0);
    let comment_word = COMMENTS
        .iter()
        .find(|one| Some(one.1) == comment)
        .map(|one| &one.0);
    let words = [
        ("user", filter.user_id.clone().unwrap_or_default()),
        ("insight", filter.insight_id.clone().unwrap_or_default()),
        ("from", from.map_or_else(String::new, parts::day)),
        ("to", to.map_or_else(String::new, parts::day)),
        (
            "rating",
            rating.map_or_else(String::new, |rating| rating.to_string()),
        ),
        ("flag", word(flag_word)),
        ("comment", word(comment_word)),
    ];
    Wanted {
        filter,
        words,
        after,
    }
}

/// The page.
pub(super) async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let wanted = read(&mut query);
    query.finish()?;
    in_order(wanted.filter.from.as_ref(), wanted.filter.to.as_ref())?;
    let page = match wanted.after.clone() {
        Some(cursor) => Page::after(LIMIT, cursor),
        None => Page::first(LIMIT),
    };
    let found = state.store.feedback().search(&wanted.filter, &page).await?;
    let pairs: Vec<(&str, &str)> = wanted
        .words
        .iter()
        .map(|(name, word)| (*name, word.as_str()))
        .collect();
    let later = found.next.as_ref().map(|next| format!("cursor={next}"));
    let earlier = wanted.after.is_some().then(String::new);
    let rows: Vec<Vec<Markup>> = found
        .entries
        .iter()
        .map(|entry| row(entry, &viewer))
        .collect();
    let table = if rows.is_empty() {
        parts::empty("No feedback is like this. Leave conditions out.", "")
    } else {
        parts::table(
            "Feedback, the last changed first",
            &["Changed", "Insight", "User", "Rating", "Flag", "Comment"],
            &rows,
        )
    };
    Ok(View::new("Search feedback")
        .with("conditions", html! { (tabs(SEARCH, &viewer)) (form(&wanted)) })
        .with("found", html! {
            section.card {
                h2 { (parts::count(found.total)) " found" }
                (table)
                (parts::pager(SEARCH, &layout::encoded(&pairs), earlier.as_deref(), later.as_deref()))
            }
        }))
}

fn form(wanted: &Wanted) -> Markup {
    let word = |name: &str| {
        wanted
            .words
            .iter()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, word)| word)
    };
    let choices = |words: &[&'static str]| -> Vec<(&'static str, &'static str)> {
        std::iter::once(("", "any or none"))
            .chain(words.iter().map(|word| (*word, *word)))
            .collect()
    };
    let flags = choices(&FLAGS.map(|one| one.0));
    let comments = choices(&COMMENTS.map(|one| one.0));
    let ratings = choices(&["1", "2", "3", "4", "5"]);
    html! {
        form.conditions method="get" action=(SEARCH) {
            (parts::field("user", "User", "search", word("user")))
            (parts::field("insight", "Insight", "search", word("insight")))
            (parts::field("from", "From", "date", word("from")))
            (parts::field("to", "To, included", "date", word("to")))
            (parts::choice("rating", "Rating", &ratings, word("rating")))
            (parts::choice("flag", "Flag", &flags, word("flag")))
            (parts::choice("comment", "Comment", &comments, word("comment")))
            button type="submit" { "Search" }
            a.button href=(SEARCH) { "Clear" }
        }
    }
}

fn row(entry: &Entry, viewer: &Viewer) -> Vec<Markup> {
    vec![
        parts::ago(entry.updated_at, viewer.now),
        html! { a href=(address(&entry.insight_id)) { (parts::name(&entry.insight_id)) } },
        parts::name(&entry.user_id),
        stars(entry.rating),
        html! { @match entry.flag_type { Some(kind) => { (kind.as_str()) @if let Some(reason) = &entry.flag_reason { div.hint.long { (reason) } } }, None => span.hint { "–" } } },
        html! { div.long { (entry.comment.as_deref().unwrap_or_default()) } },
    ]
}
