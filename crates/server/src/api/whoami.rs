//! Who calls: what a token says to a program that holds it.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utxoiq_store::token::{Identity, Scope};

use crate::{
    AppState,
    auth::Authenticated,
    routes::{Call, Routes},
};

/// What a caller is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// It has a service token.
    ServiceToken,
    /// It is an end user.
    User,
}

/// Who calls.
#[derive(Debug, Serialize, ToSchema)]
struct Whoami {
    /// What the caller is.
    kind: Kind,
    /// The user id under which it acts for itself.
    subject: String,
    /// The service token's name.
    name: Option<String>,
    /// What it may do; `admin` is everything but `act_as`.
    scopes: Vec<&'static str>,
    /// The tier of its rate limit; null: it is not limited.
    tier: Option<String>,
    /// From when on what it presented no longer works; null: never.
    expires_at: Option<DateTime<Utc>>,
}

/// The call of this module.
pub fn routes() -> Routes {
    Routes::new("callers", "Who calls").add(
        Call::get_as_anyone("/api/v1/whoami", "Who one is, and what one may do")
            .answers::<Whoami>("the caller"),
        whoami,
    )
}

async fn whoami(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Json<Whoami> {
    let (kind, name) = match &caller.identity {
        Identity::Token { name, .. } => (Kind::ServiceToken, Some(name.clone())),
        Identity::User => (Kind::User, None),
    };
    Json(Whoami {
        kind,
        subject: caller.subject.clone(),
        name,
        scopes: caller.scopes.iter().copied().map(Scope::as_str).collect(),
        tier: state
            .store
            .limiter()
            .tier_of(&caller)
            .map(|tier| tier.name.clone()),
        expires_at: caller.expires_at,
    })
}
