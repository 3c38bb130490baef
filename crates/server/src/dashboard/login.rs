//! Logging in and out.

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{Visitor, assets, layout, session};
use crate::{
    AppState, auth, body,
    error::{ApiError, ApiResult, Told},
    input::{Input, Query},
    observe,
    routes::{Call, Routes},
};

/// Adds the pages.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(Call::open("/login", "The log-in"), show)
        .add(Call::open_post("/login", "Log in"), log_in)
        .add(Call::done("/logout", None, "Log out"), log_out)
}

/// Why the log-in is shown.
#[derive(Clone, Copy)]
enum Why {
    Ended,
    Left,
}

const WHYS: &[(&str, Why); 2] = &[("ended", Why::Ended), ("left", Why::Left)];

async fn show(State(state): State<AppState>, Query(mut query): Query) -> Response {
    let to = query.optional_text("to", 1..=2_000).unwrap_or_default();
    let message = match query.optional_one_of("why", WHYS) {
        Some(Why::Ended) => {
            Some("Your token has expired or was revoked. Log in with one that works.")
        }
        Some(Why::Left) => Some("You are logged out."),
        None => None,
    };
    form(
        &state,
        StatusCode::OK,
        session::local(&to).unwrap_or("/"),
        message,
        false,
    )
}

async fn log_in(State(state): State<AppState>, request: Request) -> Response {
    let (to, answered) = try_to(&state, request).await;
    match answered {
        Ok(response) => response,
        Err(error) => {
            let message = match error.code() {
                "unauthorized" => {
                    "This token does not let in: it is wrong, expired or revoked. Check it, or make one with utxoiq-store token create."
                }
                _ => error.detail(),
            };
            let mut response = form(&state, error.status(), &to, Some(message), true);
            response.extensions_mut().insert(Told);
            response
        }
    }
}

/// Where to go after it, and what became of it.
async fn try_to(state: &AppState, request: Request) -> (String, ApiResult<Response>) {
    let mut to = "/".to_owned();
    let answered = async {
        session::same_origin(request.headers())?;
        state.readiness.admit()?;
        let (head, content) = request.into_parts();
        let content = Request::from_parts(head.clone(), content);
        let mut fields = fields(state, content).await?;
        let wanted = fields.optional_text("to", 1..=2_000).unwrap_or_default();
        if let Some(local) = session::local(&wanted) {
            local.clone_into(&mut to);
        }
        let token = fields.optional_text("token", 0..=session::MAX_TOKEN);
        let token = token.as_deref().map(str::trim);
        let token = token.filter(|token| session::is_token(token));
        let token = token.ok_or_else(ApiError::invalid_token)?;
        let now = state.store.now();
        auth::known(
            state,
            token,
            &head.extensions,
            &head.headers,
            now,
            &mut None,
        )
        .await?;
        let is_tls = observe::is_tls(state);
        let cookie = session::remember(token, is_tls).ok_or_else(ApiError::invalid_token)?;
        let mut response = Redirect::to(&to).into_response();
        response.headers_mut().append(header::SET_COOKIE, cookie);
        Ok(response)
    }
    .await;
    (to, answered)
}

async fn log_out(State(state): State<AppState>, _: Visitor) -> Response {
    let mut response = Redirect::to("/login?why=left").into_response();
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, session::forget(observe::is_tls(&state)));
    headers.append("clear-site-data", HeaderValue::from_static("\"cache\""));
    response
}

/// The fields of a form.
pub(super) async fn fields(state: &AppState, request: Request) -> ApiResult<Input> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| {
        kind.as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    let bytes: Bytes = body::read(request, state).await?;
    if !is_form && !bytes.is_empty() {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "a form sends application/x-www-form-urlencoded",
        ));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| ApiError::malformed("malformed_form", "the form is not UTF-8"))?;
    Input::query(text)
}

fn form(
    state: &AppState,
    status: StatusCode,
    to: &str,
    message: Option<&str>,
    is_refusal: bool,
) -> Response {
    let page = written(to, message, is_refusal, state.oidc.is_some());
    (status, [observe::page_policy()], Html(page.into_string())).into_response()
}

fn written(to: &str, message: Option<&str>, is_refusal: bool, knows_users: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (layout::head("Log in"))
            body.login {
                main {
                    div.brand { (assets::logo()) span { "utxoIQ " b { "Store" } } }
                    h1 { "Log in" }
                    @if let Some(message) = message {
                        p.note.bad[is_refusal] role=[is_refusal.then_some("alert")] id="message" { (message) }
                    }
                    form method="post" action="/login" {
                        input type="hidden" name="to" value=(to);
                        label for="token" { "Token" }
                        input #token type="password" name="token" required autocomplete="current-password"
                            spellcheck="false" autocapitalize="none" autofocus aria-describedby="token-help";
                        p.hint #token-help {
                            @if knows_users { "A service token (uqs_…), or your token of the identity provider. " }
                            @else { "A service token (uqs_…). " }
                            "Its scopes decide what you see."
                        }
                        button.primary type="submit" { "Log in" }
                    }
                    details.hint {
                        summary { "I have no token" }
                        p { "An administrator makes one, for reading only:" }
                        pre data-copy { "utxoiq-store token create --name my-dashboard --scopes backfill:read,stats:read,metrics:read,pool:read" }
                    }
                }
            }
        }
    }
}
