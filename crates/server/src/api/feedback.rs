//! Feedback calls: what users say of insights, and what is read of it (C2).
//!
//! Who speaks is always the caller ([`UserId`]); a body's user is never looked at. Who may read what:
//!
//! * Everyone with `feedback:read` reads the comments on an insight, and of feedback and history what is the caller's own.
//! * Everyone with `stats:read` reads what names no user: statistics, the ranking, the trend.
//! * `feedback:read_all` reads everyone's: searches without a user or for another one, the review queue, exports.
//! * `feedback:erase` erases a person.

mod erase;
mod export;
mod lists;
mod page;
mod summary;
pub mod wire;

use axum::{Json, extract::State};
use utxoiq_store::{
    feedback::{Fact, Filter, FlagFilter, FlagType, Written},
    token::{Caller, Scope},
};

use crate::{
    AppState,
    auth::UserId,
    error::{ApiError, ApiResult},
    input::{Body, Input},
    routes::{Call, Routes},
    version::Versioned,
};
use wire::Feedback;

/// The longest id of an insight or a user, in characters.
const MAX_ID: usize = 100;

const MAX_COMMENT: usize = 1_000;

const MAX_REASON: usize = 500;

const FLAG_TYPES: &[(&str, FlagType); 5] = &[
    ("inaccurate", FlagType::Inaccurate),
    ("misleading", FlagType::Misleading),
    ("spam", FlagType::Spam),
    ("inappropriate", FlagType::Inappropriate),
    ("other", FlagType::Other),
];

const FLAGS: &[(&str, FlagFilter); 6] = &[
    ("any", FlagFilter::Any),
    ("inaccurate", FlagFilter::Of(FlagType::Inaccurate)),
    ("misleading", FlagFilter::Of(FlagType::Misleading)),
    ("spam", FlagFilter::Of(FlagType::Spam)),
    ("inappropriate", FlagFilter::Of(FlagType::Inappropriate)),
    ("other", FlagFilter::Of(FlagType::Other)),
];

const FACTS: &[(&str, Fact); 3] = &[
    ("rating", Fact::Rating),
    ("comment", Fact::Comment),
    ("flag", Fact::Flag),
];

/// A write's answer: the feedback as it is now, and the version to send back for reading it.
type Answer = Versioned<Json<Feedback>>;

/// The calls.
pub fn routes() -> Routes {
    let routes = Routes::new("feedback", "What users think of insights, exact after every acknowledged write (C2).")
        .add(
            write("/api/v1/feedback/rate", "Rate an insight")
                .describe("One rating a user and insight: a later one replaces it. Without a comment the earlier one stays.")
                .body::<wire::Rate>()
                .answers::<Feedback>("the user's feedback on the insight")
                .tells_version(),
            rate,
        )
        .add(
            write("/api/v1/feedback/comment", "Comment on an insight")
                .describe("One comment a user and insight: a later one replaces it.")
                .body::<wire::Comment>()
                .answers::<Feedback>("the user's feedback on the insight")
                .tells_version(),
            comment,
        )
        .add(
            write("/api/v1/feedback/flag", "Flag an insight")
                .describe("One flag a user and insight: a later one replaces it, and its reason.")
                .body::<wire::Flag>()
                .answers::<Feedback>("the user's feedback on the insight")
                .tells_version(),
            flag,
        )
        .add(
            write("/api/v1/feedback/withdraw", "Take a rating, a comment or a flag back")
                .describe(
                    "Answers what is left: with all three taken back only the ids and times of feedback that is gone. What \
                     was said stays in the history until retention removes it.",
                )
                .body::<wire::Withdraw>()
                .answers::<Feedback>("the user's feedback on the insight")
                .tells_version()
                .refuses(404, "nothing_to_withdraw", "the user has said no such thing of the insight"),
            withdraw,
        );
    erase::add(export::add(lists::add(summary::add(routes))))
}

fn write(path: &'static str, summary: &'static str) -> Call {
    Call::post(path, Scope::FeedbackWrite, summary).for_user()
}

fn answer(written: Written) -> Answer {
    Versioned(written.transaction, Json(written.entry.into()))
}

fn insight_id(input: &mut Input) -> String {
    input.name("insight_id", 1..=MAX_ID)
}

async fn rate(
    State(state): State<AppState>,
    UserId(user): UserId,
    Body(mut body): Body,
) -> ApiResult<Answer> {
    let insight = insight_id(&mut body);
    let rating = body.int("rating", 1..=5);
    let comment = body.optional_text("comment", 1..=MAX_COMMENT);
    body.finish()?;
    let (feedback, now) = (state.store.feedback(), state.store.now());
    let rating = i16::try_from(rating).unwrap_or_default();
    let written = feedback
        .rate(&insight, &user, rating, comment.as_deref(), now)
        .await?;
    Ok(answer(written))
}

async fn comment(
    State(state): State<AppState>,
    UserId(user): UserId,
    Body(mut body): Body,
) -> ApiResult<Answer> {
    let insight = insight_id(&mut body);
    let comment = body.text("comment", 1..=MAX_COMMENT);
    body.finish()?;
    let (feedback, now) = (state.store.feedback(), state.store.now());
    let written = feedback.comment(&insight, &user, &comment, now).await?;
    Ok(answer(written))
}

async fn flag(
    State(state): State<AppState>,
    UserId(user): UserId,
    Body(mut body): Body,
) -> ApiResult<Answer> {
    let insight = insight_id(&mut body);
    let flag_type = body.one_of("flag_type", FLAG_TYPES);
    let reason = body.optional_text("flag_reason", 0..=MAX_REASON);
    body.finish()?;
    // A form whose field was left empty gives no reason.
    let reason = reason.filter(|reason| !reason.trim().is_empty());
    let (feedback, now) = (state.store.feedback(), state.store.now());
    let written = feedback
        .flag(&insight, &user, flag_type, reason.as_deref(), now)
        .await?;
    Ok(answer(written))
}

async fn withdraw(
    State(state): State<AppState>,
    UserId(user): UserId,
    Body(mut body): Body,
) -> ApiResult<Answer> {
    let insight = insight_id(&mut body);
    let fact = body.one_of("fact", FACTS);
    body.finish()?;
    let (feedback, now) = (state.store.feedback(), state.store.now());
    let written = feedback.withdraw(&insight, &user, fact, now).await?;
    Ok(answer(written))
}

/// Reads the conditions of a search or an export.
fn filter(query: &mut Input) -> Filter {
    let rating = query.optional_int("rating", 1..=5);
    Filter {
        user_id: query.optional_name("user_id", 1..=MAX_ID),
        insight_id: query.optional_name("insight_id", 1..=MAX_ID),
        from: query.optional_time("from"),
        to: query.optional_time("to"),
        rating: rating.and_then(|rating| i16::try_from(rating).ok()),
        flag: query.optional_one_of("flag", FLAGS),
        has_comment: query.optional_bool("has_comment"),
    }
}

/// Refuses a range that ends before it begins: an empty answer would hide the mistake.
pub(crate) fn in_order<T: PartialOrd>(from: Option<&T>, to: Option<&T>) -> ApiResult<()> {
    match (from, to) {
        (Some(from), Some(to)) if from > to => {
            let message = "the range ends before it begins: exchange its bounds";
            Err(utxoiq_store::Error::invalid("invalid_range", message).into())
        }
        _ => Ok(()),
    }
}

/// Refuses to tell a caller what others said, unless its token may read everyone's.
fn may_read(caller: &Caller, UserId(own): &UserId, whose: Option<&str>) -> ApiResult<()> {
    if whose == Some(own) || caller.has(Scope::FeedbackReadAll) {
        return Ok(());
    }
    Err(ApiError::forbidden_to(
        "reading the feedback of other users",
        Scope::FeedbackReadAll,
    ))
}
