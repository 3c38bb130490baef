//! Cloud Storage's XML API, in this process: as much of it as a client of objects uses.
//!
//! Put (with `x-goog-if-generation-match`), get with ranges, head, delete, copy, listing in pages, and multipart uploads. It
//! keeps everything in memory, and speaks on a free port of 127.0.0.1. The emulators that can be had speak the JSON API, which
//! clients of the XML API do not. Of the JSON API it answers one call: where a bucket is.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, Method, Response, StatusCode, header},
};
use bytes::Bytes;
use tokio::{net::TcpListener, task::JoinHandle};

/// How many objects a page of a listing has: few, so that clients have to ask for the next one.
const OBJECTS_A_PAGE: usize = 3;

/// Where the JSON API describes buckets.
const BUCKETS: &str = "storage/v1/b/";

/// A server, which ends when this is dropped.
pub struct FakeGcs {
    address: SocketAddr,
    state: Arc<Mutex<Stored>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Stored {
    objects: BTreeMap<String, (Bytes, u64)>,
    uploads: HashMap<String, BTreeMap<u32, Bytes>>,
    generation: u64,
    failing: usize,
    refusing: bool,
    requests: usize,
    location: Option<(StatusCode, String)>,
    asked_with: Option<String>,
}

type Shared = Arc<Mutex<Stored>>;

fn lock(state: &Shared) -> MutexGuard<'_, Stored> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeGcs {
    /// A server without objects; every bucket exists.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        let state = Shared::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self {
            address,
            state,
            serving,
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key of a service account with which a client asks here, and nobody else for a token.
    pub fn service_account(&self) -> String {
        format!(
            r#"{{"gcs_base_url": "{}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}"#,
            self.url()
        )
    }

    /// The next so many requests get 503.
    pub fn fail(&self, requests: usize) {
        lock(&self.state).failing = requests;
    }

    /// From now on requests get 403, or get what they ask for again.
    pub fn refuse(&self, refuses: bool) {
        lock(&self.state).refusing = refuses;
    }

    /// Where its buckets are from now on, as the JSON API tells it: location, its type, and the regions of a configurable
    /// dual-region. Before this is called, nobody may know.
    pub fn place(&self, location: &str, kind: &str, regions: &[&str]) {
        let regions: Vec<String> = regions
            .iter()
            .map(|region| format!("\"{region}\""))
            .collect();
        let placement = if regions.is_empty() {
            String::new()
        } else {
            format!(
                r#", "customPlacementConfig": {{"dataLocations": [{}]}}"#,
                regions.join(", ")
            )
        };
        self.answer_location(
            200,
            &format!(r#"{{"location": "{location}", "locationType": "{kind}"{placement}}}"#),
        );
    }

    /// What it answers from now on to who asks where a bucket is.
    pub fn answer_location(&self, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).expect("it is a status");
        lock(&self.state).location = Some((status, body.to_owned()));
    }

    /// What the last one who asked where a bucket is had in its header of authorization.
    pub fn asked_with(&self) -> Option<String> {
        lock(&self.state).asked_with.clone()
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        lock(&self.state).requests
    }

    /// What lies here: bucket, slash, name.
    pub fn objects(&self) -> Vec<String> {
        lock(&self.state).objects.keys().cloned().collect()
    }

    /// How many multipart uploads were begun and neither completed nor given up.
    pub fn unfinished_uploads(&self) -> usize {
        lock(&self.state).uploads.len()
    }
}

impl Drop for FakeGcs {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Answer = Response<Body>;

async fn answer(
    State(state): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let name = decoded(parts.uri.path().trim_start_matches('/'));
    let mut stored = lock(&state);
    stored.requests += 1;
    if stored.failing > 0 {
        stored.failing -= 1;
        return plain(StatusCode::SERVICE_UNAVAILABLE);
    }
    if stored.refusing {
        return plain(StatusCode::FORBIDDEN);
    }
    if parts.method == Method::GET && name.starts_with(BUCKETS) {
        return tell_location(&mut stored, &parts.headers);
    }
    let upload = query.get("uploadId");
    let is_object = name.contains('/');
    match (parts.method, upload) {
        (Method::GET, None) if !is_object => list(&stored, &name, &query),
        (Method::GET | Method::HEAD, None) => get(&stored, &name, &parts.headers),
        (Method::PUT, None) => put(&mut stored, name, &parts.headers, body),
        (Method::PUT, Some(id)) => put_part(&mut stored, id, &query, body),
        (Method::POST, None) => begin(&mut stored),
        (Method::POST, Some(id)) => complete(&mut stored, id, name),
        (Method::DELETE, Some(id)) => {
            stored.uploads.remove(id);
            plain(StatusCode::NO_CONTENT)
        }
        (Method::DELETE, None) => match stored.objects.remove(&name) {
            Some(_) => plain(StatusCode::NO_CONTENT),
            None => plain(StatusCode::NOT_FOUND),
        },
        _ => plain(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn plain(status: StatusCode) -> Answer {
    respond(status, &[], Bytes::new())
}

fn respond(status: StatusCode, headers: &[(&str, String)], body: impl Into<Body>) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(body.into()).expect("the headers are valid")
}

fn tell_location(stored: &mut Stored, headers: &HeaderMap) -> Answer {
    stored.asked_with = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    match &stored.location {
        Some((status, body)) => respond(*status, &[], body.clone()),
        None => plain(StatusCode::FORBIDDEN),
    }
}

fn get(stored: &Stored, name: &str, headers: &HeaderMap) -> Answer {
    let Some((bytes, generation)) = stored.objects.get(name) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let mut told = vec![
        ("etag", format!("\"{generation}\"")),
        ("x-goog-generation", generation.to_string()),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
    ];
    let range = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let Some((start, end)) = range else {
        return respond(StatusCode::OK, &told, bytes.clone());
    };
    let start: usize = start.parse().unwrap_or_default();
    if start >= bytes.len() {
        return plain(StatusCode::RANGE_NOT_SATISFIABLE);
    }
    let last = end
        .parse()
        .map_or(bytes.len() - 1, |end: usize| end.min(bytes.len() - 1));
    told.push((
        "content-range",
        format!("bytes {start}-{last}/{}", bytes.len()),
    ));
    respond(
        StatusCode::PARTIAL_CONTENT,
        &told,
        bytes.slice(start..=last),
    )
}

fn put(stored: &mut Stored, name: String, headers: &HeaderMap, body: Bytes) -> Answer {
    let present = stored
        .objects
        .get(&name)
        .map_or(0, |(_, generation)| *generation);
    let wanted = headers
        .get("x-goog-if-generation-match")
        .and_then(|wanted| wanted.to_str().ok()?.parse().ok());
    if wanted.is_some_and(|wanted: u64| wanted != present) {
        return plain(StatusCode::PRECONDITION_FAILED);
    }
    let source = headers
        .get("x-goog-copy-source")
        .and_then(|source| source.to_str().ok());
    let body = match source {
        None => body,
        Some(source) => match stored.objects.get(&decoded(source.trim_start_matches('/'))) {
            Some((bytes, _)) => bytes.clone(),
            None => return plain(StatusCode::NOT_FOUND),
        },
    };
    let generation = keep(stored, name, body);
    respond(StatusCode::OK, &stored_headers(generation), Bytes::new())
}

fn keep(stored: &mut Stored, name: String, bytes: Bytes) -> u64 {
    stored.generation += 1;
    stored.objects.insert(name, (bytes, stored.generation));
    stored.generation
}

fn stored_headers(generation: u64) -> [(&'static str, String); 2] {
    [
        ("etag", format!("\"{generation}\"")),
        ("x-goog-generation", generation.to_string()),
    ]
}

fn begin(stored: &mut Stored) -> Answer {
    stored.generation += 1;
    let id = format!("upload-{}", stored.generation);
    stored.uploads.insert(id.clone(), BTreeMap::new());
    let body = format!(
        "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
    );
    respond(StatusCode::OK, &[], body)
}

fn put_part(stored: &mut Stored, id: &str, query: &HashMap<String, String>, body: Bytes) -> Answer {
    let number = query
        .get("partNumber")
        .and_then(|number| number.parse().ok());
    match (stored.uploads.get_mut(id), number) {
        (Some(parts), Some(number)) => {
            parts.insert(number, body);
            respond(
                StatusCode::OK,
                &[("etag", format!("\"{number}\""))],
                Bytes::new(),
            )
        }
        _ => plain(StatusCode::NOT_FOUND),
    }
}

fn complete(stored: &mut Stored, id: &str, name: String) -> Answer {
    let Some(parts) = stored.uploads.remove(id) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let parts: Vec<Bytes> = parts.into_values().collect();
    let generation = keep(stored, name, parts.concat().into());
    let body = format!(
        "<CompleteMultipartUploadResult><ETag>\"{generation}\"</ETag></CompleteMultipartUploadResult>"
    );
    respond(StatusCode::OK, &stored_headers(generation), body)
}

fn list(stored: &Stored, bucket: &str, query: &HashMap<String, String>) -> Answer {
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let prefix = format!("{bucket}/{}", text("prefix"));
    let after = format!(
        "{bucket}/{}",
        text("continuation-token").max(text("start-after"))
    );
    let mut page = String::new();
    let mut last = None;
    let mut found = stored
        .objects
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix) && **name > after);
    for (name, (bytes, generation)) in found.by_ref().take(OBJECTS_A_PAGE) {
        let key = &name[bucket.len() + 1..];
        let _ = write!(
            page,
            "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2026-01-01T00:00:00.789Z</LastModified><ETag>\"{generation}\"</ETag></Contents>",
            key.replace('&', "&amp;").replace('<', "&lt;"),
            bytes.len()
        );
        last = Some(key);
    }
    if let (Some(last), Some(_)) = (last, found.next()) {
        let _ = write!(
            page,
            "<NextContinuationToken>{last}</NextContinuationToken>"
        );
    }
    respond(
        StatusCode::OK,
        &[],
        format!("<ListBucketResult>{page}</ListBucketResult>"),
    )
}

/// A path without its percent signs.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, more @ ..] = rest {
        let escaped = match (first, more) {
            (b'%', [high, low, ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok();
                digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
