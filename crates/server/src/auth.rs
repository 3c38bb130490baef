//! Who calls, and for whom.
//!
//! Every call but those declared open ([`crate::routes::Access`]) needs `Authorization: Bearer …` with a service token
//! (`uqs_…`) or, where an identity provider is configured, an end user's token ([`oidc`]), whose caller has the call's scope.
//! The form tells which of them it is. The check runs before the body is read, and after the question whether this process
//! can serve at all, since service tokens are in the database.
//!
//! Every token that does not let in gets the same 401, whatever is wrong with it.
//!
//! Who is known comes under its limits ([`crate::rate_limit`]), and an address that sends one wrong service token after another
//! is not looked up any more ([`Attempts`](utxoiq_store::limit::Attempts)).

pub mod jwks;
pub mod jwt;
pub mod oidc;
mod provider;

pub use provider::{KeysSnapshot, PAUSE};

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request},
    http::{Extensions, HeaderMap, HeaderName, header, request::Parts},
};
use chrono::{DateTime, Utc};
use utxoiq_store::{
    error::Error,
    token::{Caller, Scope},
};

use crate::{
    AppState, client,
    error::{ApiError, ApiResult},
    rate_limit::{Limits, Standing, seconds},
};

const USER_ID: &str = "X-User-Id";

static USER_ID_HEADER: HeaderName = HeaderName::from_static("x-user-id");

/// The longest user id, in characters.
const MAX_USER_ID: usize = 100;

/// The caller of a call that is not open.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Arc<Caller>);

/// The user for whom a call is made: the token's own, or the one that a token with the scope `act_as` names in the
/// header `X-User-Id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(pub String);

/// What service tokens begin with. Only they cost a look-up.
const SERVICE_TOKEN: &str = "uqs_";

/// Lets a request through when its caller is within its limits and has the scope, or, without one, when there is a caller; and
/// notes the caller, and in `standing` how it stands.
pub(crate) async fn authorize(
    state: &AppState,
    scope: Option<Scope>,
    request: &mut Request,
    now: DateTime<Utc>,
    standing: &mut Option<Box<Standing>>,
) -> ApiResult<()> {
    state.readiness.admit()?;
    let token = bearer(request.headers()).ok_or_else(ApiError::unauthorized)?;
    let (extensions, headers) = (request.extensions(), request.headers());
    let caller = known(state, token, extensions, headers, now, standing).await?;
    require(state, &caller, scope, now).await?;
    request.extensions_mut().insert(Authenticated(caller));
    Ok(())
}

/// The caller to whom the token of a request belongs, if it is within its limits.
pub(crate) async fn known(
    state: &AppState,
    token: &str,
    extensions: &Extensions,
    headers: &HeaderMap,
    now: DateTime<Utc>,
    standing: &mut Option<Box<Standing>>,
) -> ApiResult<Arc<Caller>> {
    let proxies = state.store.config().server.trusted_proxies;
    let address = client::address(extensions, headers, proxies);
    let caller = authenticate(state, token, address, now).await?;
    if let Some(limits) = Limits::of(state.store.limiter(), &caller, headers) {
        // In a box, so that the way of a request without a limit, nearly every one, is not as wide as this one.
        Box::pin(limits.admit(now, standing)).await?;
    }
    Ok(caller)
}

/// Refuses a caller that lacks the scope.
pub(crate) async fn require(
    state: &AppState,
    caller: &Caller,
    scope: Option<Scope>,
    now: DateTime<Utc>,
) -> ApiResult<()> {
    match scope {
        Some(scope) if !caller.has(scope) => {
            state.denials.note(&state.store, caller, scope, now).await;
            Err(ApiError::forbidden(scope))
        }
        _ => Ok(()),
    }
}

/// The caller to whom a token belongs. An address that has sent too many wrong ones is answered without a look-up, but where
/// the token was right before.
pub(crate) async fn authenticate(
    state: &AppState,
    token: &str,
    address: Option<IpAddr>,
    now: DateTime<Utc>,
) -> ApiResult<Arc<Caller>> {
    let is_service = token.starts_with(SERVICE_TOKEN);
    if is_service
        && let Some(wait) = address.and_then(|address| state.attempts.refusal(address, now))
        && !state.tokens.was_right(token)
    {
        return Err(ApiError::too_many_failed_logins(seconds(wait)));
    }
    let caller = match &state.oidc {
        Some(oidc) if !is_service => oidc.authenticate(token, now).await?,
        _ => state.tokens.authenticate(token, now).await?,
    };
    // An end user's token costs no look-up, whether it is right or wrong.
    if let (None, Some(address), true) = (&caller, address, is_service) {
        state.attempts.failed(address, now);
    }
    caller.ok_or_else(ApiError::invalid_token)
}

/// The token of a request that names exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        // Absent only on an open call, whose handler then asks for what it cannot have.
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(ApiError::unauthorized)
    }
}

impl<S: Sync> FromRequestParts<S> for UserId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        match named_user(&parts.headers) {
            None => Ok(Self(caller.subject.clone())),
            Some(_) if !caller.has(Scope::ActAs) => Err(ApiError::forbidden(Scope::ActAs)),
            Some(named) => Ok(Self(named?)),
        }
    }
}

/// The user that the header names; `None` without the header.
pub(crate) fn named_user(headers: &HeaderMap) -> Option<ApiResult<String>> {
    let refuse = |message: &str| Some(Err(Error::field(USER_ID, message).into()));
    let mut values = headers.get_all(&USER_ID_HEADER).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return refuse("must be sent once");
    }
    let Ok(user) = std::str::from_utf8(value.as_bytes()) else {
        return refuse("must be UTF-8");
    };
    if user.trim().is_empty() {
        return refuse("must not be blank");
    }
    if user.chars().count() > MAX_USER_ID {
        return refuse("must have at most 100 characters");
    }
    if user.chars().any(char::is_control) {
        return refuse("must not contain control characters");
    }
    Some(Ok(user.to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_read_and_nothing_else() {
        let read = |values: &[&[u8]]| bearer(&headers("authorization", values)).map(str::to_owned);
        assert_eq!(read(&[b"Bearer uqs_x"]).as_deref(), Some("uqs_x"));
        assert_eq!(read(&[b"bearer  uqs_x "]).as_deref(), Some("uqs_x"));
        let refused: [&[&[u8]]; 6] = [
            &[],
            &[b"uqs_x"],
            &[b"Basic uqs_x"],
            &[b"Bearer"],
            &[b"Bearer a", b"Bearer b"],
            &[b"Bearer \xff"],
        ];
        for none in refused {
            assert_eq!(read(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_named_user_has_at_most_100_plain_characters() {
        let read = |value: &[u8]| named_user(&headers("x-user-id", &[value])).unwrap();
        for good in [99, 100] {
            assert!(read("ä".repeat(good).as_bytes()).is_ok());
        }
        for bad in ["ä".repeat(101).as_bytes(), b"", b" ", b"\xff", b"a\tb"] {
            assert_eq!(read(bad).unwrap_err().status(), 422);
        }
        assert!(named_user(&HeaderMap::new()).is_none());
        assert!(
            named_user(&headers("x-user-id", &[b"a", b"a"]))
                .unwrap()
                .is_err()
        );
    }
}
