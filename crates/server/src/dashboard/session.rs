//! Who is logged in to the dashboard.
//!
//! # How
//!
//! The log-in takes a service token, or an end user's where the service knows an identity provider, checks it as any call's
//! ([`crate::auth`]: wrong ones are counted by address, limits hold), and gives it to the browser as a cookie: `HttpOnly`,
//! `SameSite=Strict`, for 12 hours, and where clients come by TLS `Secure` under a name with the prefix `__Host-`, which no
//! other host and no plain connection can set. Nothing is kept here: every request is checked as if its token had come in a
//! header, so that a revoked or expired token ends the session with it.
//!
//! # Why no other site can act through it
//!
//! * The cookie counts on pages of the dashboard only ([`Access::Page`](crate::routes::Access), `Access::Fragment`). Calls of
//!   the API read `Authorization`, which a browser never adds by itself; so no site can make a call with somebody's cookie.
//! * Pages that are read change nothing. What a page does is a POST, and a POST counts only if the browser says that it comes from
//!   a page of ours: `Sec-Fetch-Site: same-origin`, which scripts cannot set; from a browser without it, an `Origin` whose
//!   host and port are those of `Host`, which is what every browser sends with a POST. One with neither is refused. This
//!   holds for the log-in as well: nobody can be logged in by somebody else.
//! * `SameSite=Strict` keeps the cookie away from requests of other sites in the first place. A link in a chat or a
//!   mail comes without it, too; such a visitor is answered with a page that goes to the same address by itself, from here. It
//!   is a page that is read, and its answer is shown to nobody but the visitor: no frame (`frame-ancestors 'none'`), no
//!   other site's script (`Cross-Origin-Resource-Policy: same-origin`, no CORS).

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use chrono::{DateTime, Utc};
use utxoiq_store::token::Scope;

use crate::{
    AppState,
    auth::{self, Authenticated},
    error::{ApiError, ApiResult},
    rate_limit::Standing,
};

/// The cookie where clients come by TLS.
const SECURE: &str = "__Host-utxoiq_store";

/// The cookie where they do not.
const PLAIN: &str = "utxoiq_store";

/// How long a browser keeps it.
const MAX_AGE_SECONDS: u32 = 12 * 60 * 60;

/// The longest token: browsers keep 4,096 bytes of a cookie, its name and flags included.
pub(crate) const MAX_TOKEN: usize = 3_800;

/// Lets a request for a page in whose visitor is logged in and has the scope; notes who that is even if it lacks it.
pub(crate) async fn admit(
    state: &AppState,
    scope: Option<Scope>,
    request: &mut Request,
    is_tls: bool,
    now: DateTime<Utc>,
    standing: &mut Option<Box<Standing>>,
) -> ApiResult<()> {
    state.readiness.admit()?;
    if !request.method().is_safe() {
        same_origin(request.headers())?;
    }
    let token = token(request.headers(), is_tls).ok_or_else(ApiError::unauthorized)?;
    let (extensions, headers) = (request.extensions(), request.headers());
    let caller = auth::known(state, token, extensions, headers, now, standing).await?;
    request
        .extensions_mut()
        .insert(Authenticated(caller.clone()));
    auth::require(state, &caller, scope, now).await
}

/// The token of the cookie, which has to be there once.
pub(crate) fn token(headers: &HeaderMap, is_tls: bool) -> Option<&str> {
    let wanted = name(is_tls);
    let mut found = cookies(headers).filter(|(name, _)| *name == wanted);
    let (_, token) = found.next()?;
    (found.next().is_none() && is_token(token)).then_some(token)
}

/// Whether somebody was logged in, with whatever token.
pub(crate) fn has_cookie(headers: &HeaderMap) -> bool {
    cookies(headers).any(|(name, _)| name == SECURE || name == PLAIN)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

fn name(is_tls: bool) -> &'static str {
    if is_tls { SECURE } else { PLAIN }
}

/// Whether a text can be a token, and the value of a cookie.
pub(crate) fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(plain)
}

/// The cookie that logs in; `None` for a text that is no token.
pub(crate) fn remember(token: &str, is_tls: bool) -> Option<HeaderValue> {
    let value = format!(
        "{}={token}; {}",
        name(is_tls),
        flags(MAX_AGE_SECONDS, is_tls)
    );
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    is_token(token).then_some(value)
}

/// The cookie that logs out.
pub(crate) fn forget(is_tls: bool) -> HeaderValue {
    let value = format!("{}=; {}", name(is_tls), flags(0, is_tls));
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn flags(max_age_seconds: u32, is_tls: bool) -> String {
    let secure = if is_tls { "; Secure" } else { "" };
    format!("Path=/; Max-Age={max_age_seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Whether the visitor followed a link of another site.
pub(crate) fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &[&str]| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| wanted.contains(&value))
    };
    is("sec-fetch-site", &["cross-site", "same-site"]) && is("sec-fetch-dest", &["document"])
}

/// Refuses what was not sent by a page of ours; the argument is at the top.
pub(crate) fn same_origin(headers: &HeaderMap) -> ApiResult<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match headers.get("sec-fetch-site") {
        Some(site) => site.as_bytes() == b"same-origin",
        None => text(header::ORIGIN)
            .and_then(|origin: &str| origin.split_once("://"))
            .is_some_and(|(scheme, authority)| {
                ["http", "https"].contains(&scheme)
                    && text(header::HOST).is_some_and(|host| host.eq_ignore_ascii_case(authority))
            }),
    };
    if is_ours {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "cross_origin",
        "this was not sent by a page of this dashboard, and nothing was done; open the page and press its button",
    ))
}

/// A page of ours to go to: a path of this host and nothing else. Browsers take `\` for `/`, leave out control characters, and
/// read two slashes at the beginning as another host.
pub(crate) fn local(target: &str) -> Option<&str> {
    let rest = target.strip_prefix('/')?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    (!rest.starts_with('/') && target.bytes().all(is_plain) && target.len() <= 2_000)
        .then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn one_goes_to_paths_of_this_host_only() {
        for good in ["/", "/dashboard/backfill?state=running&x=%2F%2F", "/x//y"] {
            assert_eq!(local(good), Some(good));
        }
        for bad in [
            "",
            "//evil",
            "//evil/..",
            "/\\evil",
            "\\\\evil",
            "/\t/evil",
            "https://evil",
            "evil",
            "/x\r\nSet-Cookie: a=b",
            "/\u{e9}",
            "javascript:alert(1)",
        ] {
            assert_eq!(local(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_a_page_of_ours_may_send_something() {
        let refused = |pairs: &[_]| same_origin(&headers(pairs)).is_err();
        assert!(!refused(&[("sec-fetch-site", "same-origin")]));
        assert!(!refused(&[("origin", "http://a.b:1"), ("host", "A.b:1")]));
        let all: [&[_]; 8] = [
            &[],
            &[("host", "a")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "http://a"),
                ("host", "a"),
            ],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null"), ("host", "null")],
            &[("origin", "http://a:1"), ("host", "a:2")],
            &[("origin", "http://a.evil"), ("host", "a")],
        ];
        for pairs in all {
            assert!(refused(pairs), "{pairs:?}");
        }
    }

    #[test]
    fn the_cookie_is_read_where_it_is_there_once_under_its_name() {
        let read = |value, is_tls| token(&headers(&[("cookie", value)]), is_tls).map(str::to_owned);
        assert_eq!(
            read("a=b; utxoiq_store=uqs_x", false).as_deref(),
            Some("uqs_x")
        );
        assert_eq!(read("utxoiq_store=uqs_x", true), None);
        assert_eq!(
            read("__Host-utxoiq_store=uqs_x", true).as_deref(),
            Some("uqs_x")
        );
        assert_eq!(read("utxoiq_store=a; utxoiq_store=b", false), None);
        assert_eq!(read("utxoiq_store=a b", false), None);
        assert!(remember("a;b", false).is_none() && remember("", false).is_none());
    }
}
