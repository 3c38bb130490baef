//! The operators' dashboard: pages at `/` and `/dashboard/…` that this service draws by itself.
//!
//! # What it guarantees
//!
//! * A page, each part of it and each action ask for the scope of the call that they mirror. What a caller may not see is not
//!   shown and not looked up; what it may not do answers 403. A test holds the table of pages.
//! * Everything works without a script. With the one of ours (`dashboard/script.js`) what changes is changed in place.
//! * Whatever was written by others is text in a page, never markup: `maud` escapes all of it. No page has a script or a style in
//!   it, and none loads anything from elsewhere ([`crate::observe::page_policy`]).
//! * Pages read the store through the handles that calls use, in a few statements each; what is in an address is read with the
//!   same checks, and refused in the form of a page.
//!
//! # How it is built
//!
//! A page is one function from what was asked to a [`View`]: a list of sections. The same function makes the page, and,
//! once a second, those sections of it that have changed ([`live`]). [`session`] says who is logged in, [`layout`] has the frame,
//! [`parts`] what pages are made of, [`chart`] what is drawn.

mod alerts;
mod assets;
mod audit;
mod backfill;
mod backups;
mod cache;
mod chart;
mod criteria;
mod feedback;
mod history;
mod layout;
mod live;
mod login;
mod metrics;
mod overview;
mod parts;
mod pool;
mod schedule;
pub(crate) mod session;
mod storage;
mod strip;

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};
use chrono::{DateTime, Utc};
use maud::Markup;
use utxoiq_store::token::{Caller, Scope};

use crate::{
    AppState,
    auth::Authenticated,
    error::{self, ApiError, ApiResult},
    input::{Input, Path, Query},
    routes::{Access, Call, Routes},
};

pub use live::Live;

/// Where the dashboard's pages are, but the first.
pub(crate) const BASE: &str = "/dashboard";

/// Who looks at a page, and when.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The time of this look.
    pub now: DateTime<Utc>,
}

impl Viewer {
    /// Whether the caller has the scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.caller.has(scope)
    }
}

/// What is asked of a page.
pub(crate) struct Asked {
    /// The fields of its path.
    pub path: Input,
    /// Its parameters.
    pub query: Input,
}

/// A part of a page that is one subject.
pub(crate) struct Section {
    /// Its id in the page, which no other section has.
    pub id: &'static str,
    /// What it shows.
    pub html: Markup,
}

/// A page, or what has become of it.
pub(crate) struct View {
    /// What it is called.
    pub title: String,
    /// Beside its title.
    pub beside: Markup,
    /// Its parts.
    pub sections: Vec<Section>,
}

impl View {
    /// A page of this title without anything on it.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            beside: Markup::default(),
            sections: Vec::new(),
        }
    }

    /// The same with something beside its title.
    pub fn beside(mut self, html: Markup) -> Self {
        self.beside = html;
        self
    }

    /// The same with one more section.
    pub fn with(mut self, id: &'static str, html: Markup) -> Self {
        self.sections.push(Section { id, html });
        self
    }
}

/// All of the dashboard.
pub fn routes() -> Routes {
    let routes = Routes::new("dashboard", "Pages for people");
    let routes = assets::add(login::add(routes));
    let routes = overview::add(routes);
    let routes = backfill::add(routes);
    let routes = feedback::add(routes);
    let routes = metrics::add(routes);
    let routes = storage::add(pool::add(cache::add(routes)));
    let routes = schedule::add(backups::add(audit::add(routes)));
    alerts::add(criteria::add(routes)).add(
        Call::shown("/dashboard/{*rest}", None, "No such page"),
        async || {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "unknown_page",
                "there is no such page; the menu has all that there are",
            )
        },
    )
}

/// Adds a page that stays as it is: looking it up each second would cost more than it says.
fn still_page<F, W>(routes: Routes, path: &'static str, scope: Option<Scope>, view: F) -> Routes
where
    F: Fn(AppState, Viewer, Asked) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = ApiResult<View>> + Send + 'static,
{
    let show = async move |State(state): State<AppState>, visitor: Visitor, asked: Asked| {
        let viewer = visitor.viewer(&state);
        let page = view(state, viewer, asked).await?;
        Ok::<_, ApiError>(layout::page(&visitor, &page, false))
    };
    routes.add(Call::shown(path, scope, "A page"), show)
}

/// Adds a page: the page itself, and the stream of what changes on it.
fn page<F, W>(
    routes: Routes,
    path: &'static str,
    live_path: &'static str,
    scope: Option<Scope>,
    view: F,
) -> Routes
where
    F: Fn(AppState, Viewer, Asked) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = ApiResult<View>> + Send + 'static,
{
    let shown = view.clone();
    let show = async move |State(state): State<AppState>, visitor: Visitor, asked: Asked| {
        let viewer = visitor.viewer(&state);
        let page = shown(state, viewer, asked).await?;
        Ok::<_, ApiError>(layout::page(&visitor, &page, true))
    };
    let follow = async move |State(state): State<AppState>,
                             visitor: Visitor,
                             Path(path): Path,
                             request: Request| {
        live::follow(state, visitor, &request, path, view)
    };
    routes.add(Call::shown(path, scope, "A page"), show).add(
        Call::live(live_path, scope, "What changes on a page"),
        follow,
    )
}

/// Who visits which page.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The page's path and query.
    pub target: String,
}

impl Visitor {
    fn viewer(&self, state: &AppState) -> Viewer {
        Viewer {
            caller: Arc::clone(&self.caller),
            now: state.store.now(),
        }
    }

    /// The scopes that decide what is shown.
    fn scopes(&self) -> BTreeSet<Scope> {
        self.caller.scopes.clone()
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let target = parts.uri.path_and_query();
        Ok(Self {
            caller,
            target: target.map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }
}

impl FromRequestParts<AppState> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let Path(path) = Path::from_request_parts(parts, state).await?;
        let Query(query) = Query::from_request_parts(parts, state).await?;
        Ok(Self {
            path,
            query: query.without_blanks(),
        })
    }
}

/// What is remembered of a request for a page, to tell people what went wrong.
pub(crate) struct Visit {
    /// Who asks, as far as known.
    pub caller: Option<Authenticated>,
    target: String,
    is_reading: bool,
    has_cookie: bool,
    comes_from_elsewhere: bool,
}

impl Visit {
    /// Of a request for a page; `None` for all others. In a box, so that the way of a call is not wider for it.
    pub fn of(access: Access, request: &Request) -> Option<Box<Self>> {
        if !matches!(access, Access::Page(_)) {
            return None;
        }
        let target = request.uri().path_and_query();
        Some(Box::new(Self {
            caller: None,
            target: target.map_or_else(|| "/".to_owned(), ToString::to_string),
            is_reading: request.method().is_safe(),
            has_cookie: session::has_cookie(request.headers()),
            comes_from_elsewhere: session::comes_from_elsewhere(request.headers()),
        }))
    }

    /// Gives a failed answer the form of a page.
    pub fn render(&self, response: Response, request_id: &str, is_tls: bool) -> Response {
        error::render_for_people(response, request_id, |problem| {
            if problem.status() == StatusCode::UNAUTHORIZED {
                return self.log_in(is_tls);
            }
            let caller = self.caller.as_ref().map(|known| &*known.0);
            layout::failed(caller, &self.target, self.is_reading, problem, request_id)
        })
    }

    /// Where nobody is logged in: to the log-in, and from there to the page.
    fn log_in(&self, is_tls: bool) -> Response {
        if self.is_reading && self.comes_from_elsewhere && !self.has_cookie {
            return layout::knock_again(&self.target);
        }
        let to = if self.is_reading { &self.target } else { "/" };
        let mut address = format!("/login?to={}", parts::encode(to));
        if self.has_cookie {
            address.push_str("&why=ended");
        }
        let mut response = Redirect::to(&address).into_response();
        if self.has_cookie {
            let forgotten = session::forget(is_tls);
            response.headers_mut().append(header::SET_COOKIE, forgotten);
        }
        response
    }
}
