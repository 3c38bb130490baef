//! All feedback that matches, as a file that streams.
//!
//! * **Constant memory**: a piece is encoded when the one before it was taken; two are there at a time.
//! * **What ends early looks torn**: the body is sent in chunks, and where rows fail to come the connection is cut before the
//!   last chunk, so that no client takes a part for the whole. The header `Export-Rows` says beforehand how many rows come.
//! * **A reader that stands still is let go**: an export holds a connection to the database, so a piece that is not taken
//!   within `server.request_timeout_seconds` ends it.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use utxoiq_store::{
    error::{Error, Result},
    feedback::{Export, Format},
    token::Scope,
};

use super::{filter, in_order, wire};
use crate::{
    AppState,
    error::ApiResult,
    input::Query,
    observe::for_this_request,
    routes::{Call, Routes},
};

const FORMATS: &[(&str, Format); 2] = &[("csv", Format::Csv), ("ndjson", Format::Ndjson)];

/// The header that says how many rows an export has.
static EXPORT_ROWS: HeaderName = HeaderName::from_static("export-rows");

/// Adds the call.
pub(super) fn add(routes: Routes) -> Routes {
    routes.add(
        Call::get("/api/v1/feedback/export", Scope::FeedbackReadAll, "Export feedback as CSV or NDJSON")
            .describe(
                "All feedback that matches, as it is when the call is made, the last changed first. It streams; a connection \
                 that ends before the last chunk means that rows are missing. In CSV a text that a spreadsheet would take for \
                 a formula gets an apostrophe in front.",
            )
            .query::<wire::FormatQuery>()
            .query::<wire::FilterQuery>()
            .answers_document("text/csv", "the feedback")
            .or_document("application/x-ndjson")
            .with_header("Export-Rows", "How many rows follow, a CSV's header not counted.")
            .with_header("Content-Disposition", "A name for the file.")
            .refuses(400, "invalid_range", "`to` is before `from`")
            .refuses(400, "export_too_large", "more match than `feedback.max_export_rows`")
            .refuses(503, "export_busy", "as many exports as may run at once are running"),
        export,
    )
}

async fn export(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Response> {
    let format = query
        .optional_one_of("format", FORMATS)
        .unwrap_or(Format::Csv);
    let filter = filter(&mut query);
    query.finish()?;
    in_order(filter.from.as_ref(), filter.to.as_ref())?;
    let export = state.store.feedback().export(&filter).await?;
    let name = format!(
        "attachment; filename=\"feedback-{}.{format}\"",
        state.store.now().format("%Y%m%dT%H%M%SZ")
    );
    let rows = HeaderValue::from(export.total());
    let patience = Duration::from_secs(state.store.config().server.request_timeout_seconds);
    let mut response = Response::new(Body::from_stream(pieces(export, format, patience)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    let name = HeaderValue::try_from(name)
        .map_err(|error| Error::internal("an export's name is no header").with_source(error))?;
    headers.insert(header::CONTENT_DISPOSITION, name);
    headers.insert(&EXPORT_ROWS, rows);
    Ok(response)
}

/// What the task that reads hands to the one that sends.
enum Piece {
    Rows(Vec<u8>),
    /// All rows were given. A channel that closes without it was given up.
    End,
}

fn pieces(
    export: Export,
    format: Format,
    patience: Duration,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(1);
    let reading = async move {
        if let Err(error) = read(export, format, &sender, patience).await {
            tracing::warn!(error = error.report(), "an export was cut off");
        }
    };
    tokio::spawn(for_this_request(reading));
    stream::try_unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Piece::Rows(rows)) => Ok(Some((rows.into(), receiver))),
            Some(Piece::End) => Ok(None),
            None => Err(io::Error::other("the export was cut off")),
        }
    })
}

async fn read(
    mut export: Export,
    format: Format,
    pieces: &mpsc::Sender<Piece>,
    patience: Duration,
) -> Result<()> {
    let give = async |piece: Piece| {
        let given = tokio::time::timeout(patience, pieces.send(piece)).await;
        given.map_err(|_| Error::unavailable("reader_stalled", "its reader stands still"))
    };
    let mut header = Vec::new();
    format.header(&mut header)?;
    // A reader that went away needs nothing more, and nobody needs to be told.
    if !header.is_empty() && give(Piece::Rows(header)).await?.is_err() {
        return Ok(());
    }
    while let Some(entries) = export.next().await? {
        let mut rows = Vec::new();
        format.encode(&entries, &mut rows)?;
        if give(Piece::Rows(rows)).await?.is_err() {
            return Ok(());
        }
    }
    give(Piece::End).await.map(|_| ())
}
