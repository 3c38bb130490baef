//! The audit log: what was done that cannot be undone.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::{
    Error,
    audit::{Anchor, Cursor, Fault, Filter, MAX_PAGE, Record, Verification, hex},
    token::Scope,
};

use super::feedback::in_order;
use crate::{
    AppState,
    error::ApiResult,
    input::{Input, Query},
    link, pieces,
    routes::{Call, Routes},
};

const PATH: &str = "/api/v1/monitoring/audit";

/// How long a page is unless said.
const LIMIT: i64 = 100;

/// No cursor is longer.
const MAX_CURSOR: usize = 32;

/// The longest list of anchors: some hundred.
const MAX_ANCHORS: usize = 8_000;

/// How many may read the whole log at once in a process: each holds a connection and a snapshot.
const PLACES: usize = 2;

/// The places for those who read the whole log.
static FREE: Semaphore = Semaphore::const_new(PLACES);

fn take_place() -> ApiResult<SemaphorePermit<'static>> {
    FREE.try_acquire().map_err(|_| {
        let message = format!(
            "{PLACES} are reading the whole audit log, which is as many as may; try again when one has ended"
        );
        Error::unavailable("audit_busy", message).into()
    })
}

/// Which entries: all conditions given must hold.
#[derive(Debug, IntoParams)]
#[allow(dead_code, reason = "for the document")]
pub struct AuditQuery {
    /// Only this action: `archive`, `verify`, `detach`, `drop`, `delete`, `expire`, `hold_add`, `erase`, `denied`, …
    #[param(min_length = 1, max_length = 50)]
    action: Option<String>,
    /// Only subjects that begin like this.
    #[param(min_length = 1, max_length = 1_000)]
    subject: Option<String>,
    /// Only what this one did.
    #[param(min_length = 1, max_length = 200)]
    actor: Option<String>,
    /// From this time on.
    from: Option<DateTime<Utc>>,
    /// Before this time.
    to: Option<DateTime<Utc>>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<i64>,
    /// Where the page before ended, as its `Link` has it.
    #[param(min_length = 1, max_length = 32)]
    cursor: Option<String>,
}

/// What is known from elsewhere.
#[derive(Debug, IntoParams)]
#[allow(dead_code, reason = "for the document")]
pub struct AuditVerifyQuery {
    /// Heads that were kept elsewhere, joined by commas: each the number of an entry, a colon, and its hash in hexadecimal. They
    /// show what the log alone cannot: an end that was cut off, or a log that was written anew.
    #[param(min_length = 1, max_length = 8_000)]
    anchors: Option<String>,
}

/// An entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Its number, from 1 on, without gaps.
    sequence: i64,
    /// When; null where somebody tampered with it.
    at: Option<DateTime<Utc>>,
    /// Who: the name of a token, an operator or a task.
    actor: String,
    /// As which database role.
    database_role: String,
    /// What was done.
    action: String,
    /// What it was done to.
    subject: String,
    /// How many, which hashes, why.
    #[schema(value_type = Object)]
    details: Value,
    /// The hash of the entry before it, in hexadecimal.
    previous_hash: String,
    /// The hash of all of the above, in hexadecimal.
    hash: String,
}

impl From<Record> for AuditEntry {
    fn from(entry: Record) -> Self {
        Self {
            sequence: entry.sequence,
            at: entry.at(),
            actor: entry.actor,
            database_role: entry.database_role,
            action: entry.action,
            subject: entry.subject,
            details: serde_json::from_str(&entry.details).unwrap_or(Value::String(entry.details)),
            previous_hash: hex(&entry.previous_hash),
            hash: hex(&entry.hash),
        }
    }
}

/// The log's end.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditHead {
    /// The last entry's number.
    sequence: i64,
    /// The last entry's hash, in hexadecimal.
    hash: String,
}

/// What a verification came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditVerification {
    /// Whether nothing is wrong.
    valid: bool,
    /// How many entries there are.
    entries: u64,
    /// The head; kept elsewhere it is an anchor for later verifications. Null where somebody removed it.
    head: Option<AuditHead>,
    /// With how many anchors the log agrees.
    anchors_agreed: u64,
    /// What is wrong, in the order of the numbers; the first hundred.
    faults: Vec<AuditFault>,
    /// How many faults there are in all.
    faults_total: u64,
}

/// Something wrong with the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditFault {
    /// `changed`, `rewritten`, `unlinked`, `removed`, `renumbered`, `swapped`, `inserted`, `tail_cut`, `head_missing`,
    /// `head_differs`, `anchor_differs` or `anchor_missing`.
    fault: &'static str,
    /// The first entry that it is about.
    first: i64,
    /// The last one.
    last: i64,
    /// The same in words.
    message: String,
}

impl From<&Fault> for AuditFault {
    fn from(fault: &Fault) -> Self {
        let (first, last) = fault.sequences();
        Self {
            fault: fault.name(),
            first,
            last,
            message: fault.to_string(),
        }
    }
}

impl From<Verification> for AuditVerification {
    fn from(verification: Verification) -> Self {
        Self {
            valid: verification.is_clean(),
            entries: verification.entries,
            anchors_agreed: verification.anchors_agreed,
            faults: verification.faults.iter().map(Into::into).collect(),
            faults_total: verification.faults_total,
            head: verification.head.map(|head| AuditHead {
                sequence: head.sequence,
                hash: hex(&head.hash),
            }),
        }
    }
}

/// The slice's calls.
pub fn routes() -> Routes {
    let read = Scope::AuditRead;
    Routes::new("audit", "The audit log: what was done that cannot be undone, as one hash chain")
        .add(
            Call::get(PATH, read, "Entries of the audit log, the newest first")
                .describe("Where more remain, the header `Link` has the address of the next page.")
                .query::<AuditQuery>()
                .answers_list::<AuditEntry>("the entries")
                .with_header("Link", "`<…>; rel=\"next\"` where more entries remain.")
                .refuses(400, "invalid_range", "`to` is before `from`"),
            list,
        )
        .add(
            Call::get("/api/v1/monitoring/audit/verify", read, "Verify the whole audit log")
                .describe(
                    "Computes every hash anew, as the log is at this moment. A broken chain is an answer, too: `valid` is false \
                     then. A log that is too long for a request is verified by `utxoiq-store audit verify`.",
                )
                .query::<AuditVerifyQuery>()
                .answers::<AuditVerification>("what the verification came to")
                .refuses(503, "audit_busy", "as many as may are reading the whole log"),
            verify,
        )
        .add(
            Call::get("/api/v1/monitoring/audit/export", read, "Export the whole audit log")
                .describe(
                    "A line of JSON for each entry, in the order of their numbers, with `details` as the text that was hashed; \
                     the last line is `{\"head\": {\"sequence\": …, \"hash\": …}, \"entries\": …}`. It streams; without the last \
                     line entries are missing. How to verify it without this service is in `docs/operations/audit.md`.",
                )
                .answers_document("application/x-ndjson", "the entries")
                .with_header("Content-Disposition", "A name for the file.")
                .refuses(503, "audit_busy", "as many as may are reading the whole log"),
            export,
        )
}

/// Reads something out of a text.
fn parsed<T: std::str::FromStr<Err = Error>>(
    query: &mut Input,
    field: &str,
    text: Option<&str>,
) -> Option<T> {
    let read = text?.parse::<T>();
    if let Err(error) = &read {
        for wrong in error.field_errors() {
            query.refuse(field, wrong.message.as_str());
        }
    }
    read.ok()
}

async fn list(
    State(state): State<AppState>,
    RawQuery(written): RawQuery,
    Query(mut query): Query,
) -> ApiResult<Response> {
    let action = query.optional_name("action", 1..=50);
    let filter = Filter {
        action: parsed(&mut query, "action", action.as_deref()),
        subject_prefix: query.optional_name("subject", 1..=1_000),
        actor: query.optional_name("actor", 1..=200),
        from: query.optional_time("from"),
        to: query.optional_time("to"),
    };
    let limit = query.int_or("limit", 1..=MAX_PAGE, LIMIT);
    let cursor = query.optional_text("cursor", 1..=MAX_CURSOR);
    let after: Option<Cursor> = parsed(&mut query, "cursor", cursor.as_deref());
    query.finish()?;
    in_order(filter.from.as_ref(), filter.to.as_ref())?;
    let page = state.store.audit().list(&filter, limit, after).await?;
    let entries: Vec<AuditEntry> = page.entries.into_iter().map(Into::into).collect();
    let mut response = Json(entries).into_response();
    if let Some(next) = page.next {
        let next = link::next(PATH, &written.unwrap_or_default(), &next.to_string());
        response.headers_mut().extend([link::header(&next)?]);
    }
    Ok(response)
}

async fn verify(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<AuditVerification>> {
    let given = query.optional_text("anchors", 1..=MAX_ANCHORS);
    let anchors: Vec<Anchor> = given
        .iter()
        .flat_map(|anchors| anchors.split(','))
        .filter_map(|anchor| parsed(&mut query, "anchors", Some(anchor)))
        .collect();
    query.finish()?;
    let _place = take_place()?;
    Ok(Json(state.store.audit().verify(&anchors).await?.into()))
}

async fn export(State(state): State<AppState>, Query(query): Query) -> ApiResult<Response> {
    query.finish()?;
    let place = take_place()?;
    let mut export = state.store.audit().export().await?;
    let name = format!(
        "attachment; filename=\"audit-{}.ndjson\"",
        state.store.now().format("%Y%m%dT%H%M%SZ")
    );
    let name = HeaderValue::try_from(name)
        .map_err(|error| Error::internal("an export's name is no header").with_source(error))?;
    let body = pieces::body(&state, |pieces| async move {
        let _place = place;
        while let Some(lines) = export.next().await? {
            if !pieces.give(lines).await? {
                break;
            }
        }
        Ok(())
    });
    let lines = HeaderValue::from_static("application/x-ndjson");
    let headers = [
        (header::CONTENT_TYPE, lines),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, body).into_response())
}
