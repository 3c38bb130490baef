//! Lists: comments, the caller's feedback, search, history, the review queue.

use axum::{Json, extract::State};
use utxoiq_store::{feedback::FlaggedFilter, token::Scope};

use super::{FLAG_TYPES, MAX_ID, filter, in_order, insight_id, may_read, page, wire};
use crate::{
    AppState,
    auth::{Authenticated, UserId},
    error::ApiResult,
    input::Query,
    routes::{Call, Routes},
    version::Seen,
};

/// How long pages are unless said, as the contract has it.
const COMMENTS_LIMIT: i64 = 20;
const USER_LIMIT: i64 = 50;

/// The same for lists that the contract does not know.
const SEARCH_LIMIT: i64 = 50;
const FLAGGED_LIMIT: i64 = 20;

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    let read = Scope::FeedbackRead;
    routes
        .add(
            Call::get("/api/v1/feedback/comments", read, "The comments on an insight, the last written first")
                .query::<wire::InsightQuery>()
                .page(COMMENTS_LIMIT)
                .after_version()
                .answers::<wire::Comments>("the comments"),
            comments,
        )
        .add(
            Call::get("/api/v1/feedback/user", read, "The caller's own feedback, the last changed first")
                .page(USER_LIMIT)
                .for_user()
                .after_version()
                .answers::<wire::User>("the feedback"),
            user,
        )
        .add(
            Call::get("/api/v1/feedback/search", read, "Find feedback, the last changed first")
                .describe(
                    "All conditions given must hold. The scope `feedback:read` is enough with the caller's own `user_id`; \
                     everything else needs `feedback:read_all` as well.",
                )
                .query::<wire::FilterQuery>()
                .page(SEARCH_LIMIT)
                .for_user()
                .answers::<wire::Found>("the feedback")
                .refuses(403, "missing_scope", "it asks for the feedback of others, and the token lacks the scope `feedback:read_all`")
                .refuses(400, "invalid_range", "`to` is before `from`"),
            search,
        )
        .add(
            Call::get("/api/v1/feedback/history", read, "What a user did, the latest first")
                .describe(
                    "Every rating, comment and flag that was given, changed or withdrawn, as far back as retention keeps it. \
                     The caller's own, unless the token has the scope `feedback:read_all`.",
                )
                .query::<wire::HistoryQuery>()
                .page(SEARCH_LIMIT)
                .for_user()
                .answers::<wire::History>("the acts")
                .refuses(403, "missing_scope", "it asks for the acts of others, and the token lacks the scope `feedback:read_all`"),
            history,
        )
        .add(
            Call::get("/api/v1/feedback/flagged", Scope::FeedbackReadAll, "Flagged insights, those with the most flags first")
                .describe("The review queue. It names the users whose reasons it shows.")
                .query::<wire::FlaggedQuery>()
                .page(FLAGGED_LIMIT)
                .answers::<wire::Flagged>("the insights")
                .refuses(400, "invalid_range", "`to` is before `from`"),
            flagged,
        )
}

/// Read from the database, which shows every committed write: the version needs only to be one.
async fn comments(
    State(state): State<AppState>,
    _: Seen,
    Query(mut query): Query,
) -> ApiResult<Json<wire::Comments>> {
    let insight_id = insight_id(&mut query);
    let page = page::read(&mut query, COMMENTS_LIMIT);
    query.finish()?;
    let found = state.store.feedback().comments(&insight_id, &page).await?;
    Ok(Json(wire::Comments {
        insight_id,
        total: found.total,
        place: wire::Place::new(&page, found.next.as_ref()),
        comments: found.entries.into_iter().map(Into::into).collect(),
    }))
}

async fn user(
    State(state): State<AppState>,
    UserId(user_id): UserId,
    _: Seen,
    Query(mut query): Query,
) -> ApiResult<Json<wire::User>> {
    let page = page::read(&mut query, USER_LIMIT);
    query.finish()?;
    let found = state.store.feedback().of_user(&user_id, &page).await?;
    Ok(Json(wire::User {
        user_id,
        total: found.total,
        place: wire::Place::new(&page, found.next.as_ref()),
        feedback: found.entries.into_iter().map(Into::into).collect(),
    }))
}

async fn search(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    own: UserId,
    Query(mut query): Query,
) -> ApiResult<Json<wire::Found>> {
    let filter = filter(&mut query);
    let page = page::read(&mut query, SEARCH_LIMIT);
    query.finish()?;
    in_order(filter.from.as_ref(), filter.to.as_ref())?;
    may_read(&caller, &own, filter.user_id.as_deref())?;
    let found = state.store.feedback().search(&filter, &page).await?;
    Ok(Json(wire::Found {
        total: found.total,
        place: wire::Place::new(&page, found.next.as_ref()),
        feedback: found.entries.into_iter().map(Into::into).collect(),
    }))
}

async fn history(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    own: UserId,
    Query(mut query): Query,
) -> ApiResult<Json<wire::History>> {
    let whose = query.optional_name("user_id", 1..=MAX_ID);
    let insight_id = query.optional_name("insight_id", 1..=MAX_ID);
    let page = page::read(&mut query, SEARCH_LIMIT);
    query.finish()?;
    let user_id = whose.unwrap_or_else(|| own.0.clone());
    may_read(&caller, &own, Some(&user_id))?;
    let acts = state
        .store
        .feedback()
        .history(&user_id, insight_id.as_deref(), &page)
        .await?;
    Ok(Json(wire::History {
        user_id,
        place: wire::Place::new(&page, acts.next.as_ref()),
        acts: acts.acts.into_iter().map(Into::into).collect(),
    }))
}

async fn flagged(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<wire::Flagged>> {
    let filter = FlaggedFilter {
        flag_type: query.optional_one_of("flag_type", FLAG_TYPES),
        insight_id: query.optional_name("insight_id", 1..=MAX_ID),
        from: query.optional_time("from"),
        to: query.optional_time("to"),
    };
    let page = page::read(&mut query, FLAGGED_LIMIT);
    query.finish()?;
    in_order(filter.from.as_ref(), filter.to.as_ref())?;
    let found = state.store.feedback().flagged(&filter, &page).await?;
    Ok(Json(wire::Flagged {
        total: found.total,
        place: wire::Place::new(&page, found.next.as_ref()),
        insights: found.insights.into_iter().map(Into::into).collect(),
    }))
}
