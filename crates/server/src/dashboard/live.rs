//! Pages that keep themselves up to date: server-sent events.
//!
//! # What it guarantees
//!
//! * Once a second the page is made again, and each of its sections whose HTML is another than was sent last goes out as one
//!   event. A comment goes out every 15 s, so that neither side takes silence for the other's death.
//! * A stream ends when its token does (asked for each second; the look-up is remembered for
//!   `server.token_cache_milliseconds`), and says so; when the process stops; and after an hour, whatever happens. The script
//!   connects again, and what comes then is the whole page once more.
//! * At most `server.max_live_streams` are open. A stream has no place among the requests that are worked on: its answer's
//!   head is its answer.
//! * Streams of one page, with the same parameters and scopes, share what is looked up: a hundred browsers on one page cost the
//!   database what one does. Something that fails is shown as it was, and looked up again a second later.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use utxoiq_store::{Store, metrics::Degradations, token::Scope};

use super::{Asked, View, Viewer, Visitor, history::History, session};
use crate::{
    AppState, auth,
    error::{ApiError, ApiResult},
    input::Input,
    observe,
};

/// How often a page is made again.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long what was made is shared: a little less, so that everybody gets something new each time.
const SHARED: Duration = Duration::from_millis(900);

/// The longest silence.
const SILENCE: Duration = Duration::from_secs(15);

/// The longest stream.
const LONGEST: Duration = Duration::from_hours(1);

/// The pages that are kept up to date, in this process.
#[derive(Debug, Clone)]
pub struct Live {
    places: Arc<Semaphore>,
    made: Cache<(String, BTreeSet<Scope>), Arc<Made>>,
    history: History,
    /// What got worse, as it was judged in the last minute: that reads weeks of rollups.
    pub(super) degradations: Cache<(), Arc<Option<Degradations>>>,
}

/// The sections of a page: id, and HTML.
type Made = Vec<(&'static str, String)>;

impl Live {
    /// With as many places as the settings say.
    pub fn new(store: &Store) -> Self {
        let judged = Cache::builder().time_to_live(Duration::from_mins(1));
        Self {
            places: Arc::new(Semaphore::new(store.config().server.max_live_streams)),
            history: History::begin(store),
            degradations: judged.build(),
            made: Cache::builder()
                .max_capacity(1_000)
                .time_to_live(SHARED)
                .build(),
        }
    }

    /// What this process did in its last hour.
    pub(super) fn history(&self) -> &History {
        &self.history
    }
}

/// Answers with what changes on a page.
pub(super) fn follow<F, W>(
    state: AppState,
    visitor: Visitor,
    request: &Request,
    path: Input,
    view: F,
) -> ApiResult<Response>
where
    F: Fn(AppState, Viewer, Asked) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = ApiResult<View>> + Send + 'static,
{
    let place = Arc::clone(&state.live.places)
        .try_acquire_owned()
        .map_err(|_| {
            ApiError::unavailable(
                "too_many_live_pages",
                "as many pages are kept up to date as server.max_live_streams allows; reload the page to see it as it is now",
            )
        })?;
    let token = session::token(request.headers(), observe::is_tls(&state));
    let token = token.ok_or_else(ApiError::unauthorized)?.to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    // What is refused now is refused for ever.
    Input::query(&query)?.finish()?;
    let following = Following {
        next: Instant::now(),
        until: Instant::now() + LONGEST,
        spoke: Instant::now(),
        sent: HashMap::new(),
        is_over: false,
        make: Box::new(move |state: &AppState, visitor: &Visitor| {
            let asked = || {
                Ok::<_, ApiError>(Asked {
                    path: path.clone(),
                    query: Input::query(&query)?.without_blanks(),
                })
            };
            let viewer = visitor.viewer(state);
            let made = asked().map(|asked| view(state.clone(), viewer, asked));
            Box::pin(async move { made?.await })
        }),
        drained: Box::pin(state.readiness.drained()),
        state,
        visitor,
        token,
        _place: place,
    };
    let events = stream::unfold(following, async |mut following| {
        let piece = following.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), following))
    });
    let kind = HeaderValue::from_static("text/event-stream");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(events)).into_response())
}

type Making = std::pin::Pin<Box<dyn Future<Output = ApiResult<View>> + Send>>;

/// Makes the page once more.
type Make = Box<dyn Fn(&AppState, &Visitor) -> Making + Send + Sync>;

/// One stream.
struct Following {
    state: AppState,
    visitor: Visitor,
    token: String,
    make: Make,
    drained: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    next: Instant,
    until: Instant,
    spoke: Instant,
    /// The hash of what was sent last, by section.
    sent: HashMap<&'static str, [u8; 32]>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// What is to be sent next; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        loop {
            if self.next >= self.until {
                return None;
            }
            tokio::select! {
                () = &mut self.drained => return None,
                () = tokio::time::sleep_until(self.next) => {}
            }
            self.next = Instant::now() + INTERVAL;
            match self.is_welcome().await {
                Some(true) => {}
                Some(false) => {
                    self.is_over = true;
                    return Some("event: end\ndata: \n\n".to_owned());
                }
                None => continue,
            }
            let events = self.changes().await;
            if !events.is_empty() {
                self.spoke = Instant::now();
                return Some(events);
            }
            if self.spoke.elapsed() >= SILENCE {
                self.spoke = Instant::now();
                return Some(": nothing has changed\n\n".to_owned());
            }
        }
    }

    /// Whether the token still lets in what it let in; `None` where that cannot be told now.
    async fn is_welcome(&mut self) -> Option<bool> {
        let now = self.state.store.now();
        match auth::authenticate(&self.state, &self.token, None, now).await {
            Ok(caller) => Some(caller.scopes == self.visitor.caller.scopes),
            Err(error) if error.status().is_server_error() => None,
            Err(_) => Some(false),
        }
    }

    /// The sections that have changed, as events.
    async fn changes(&mut self) -> String {
        let made = &self.state.live.made;
        let key = (self.visitor.target.clone(), self.visitor.scopes());
        let making = async {
            let view = (self.make)(&self.state, &self.visitor).await?;
            let sections = view.sections.into_iter();
            let sections = sections.map(|section| (section.id, section.html.into_string()));
            Ok::<_, ApiError>(Arc::new(sections.collect::<Made>()))
        };
        let Ok(made) = made.try_get_with(key, making).await else {
            return String::new();
        };
        let mut events = String::new();
        for (id, html) in made.iter() {
            let hash: [u8; 32] = Sha256::digest(html).into();
            if self.sent.insert(id, hash) != Some(hash) {
                events.push_str(&event(id, html));
            }
        }
        events
    }
}

/// An event: its first line is the section's id, the rest its HTML.
fn event(id: &str, html: &str) -> String {
    let lines: Vec<&str> = html.split(['\n', '\r']).collect();
    format!(
        "event: section\ndata: {id}\ndata: {}\n\n",
        lines.join("\ndata: ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_cannot_end_its_event_early() {
        let text = event("x", "a\r\n\r\nevent: end\ndata: b");
        assert_eq!(text.matches("\n\n").count(), 1);
        assert!(text.ends_with("\n\n") && !text.contains('\r'));
        assert!(text.contains("\ndata: event: end\n"));
    }
}
