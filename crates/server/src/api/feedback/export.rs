//! All feedback that matches, as a file that streams.
//!
//! It streams as [`crate::pieces`] says. The header `Export-Rows` says beforehand how many rows come.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
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
    pieces::{self, Pieces},
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
    let body = pieces::body(&state, |pieces| give(export, format, pieces));
    let mut response = Response::new(body);
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

/// Gives all rows, encoded.
async fn give(mut export: Export, format: Format, pieces: Pieces) -> Result<()> {
    let mut rows = Vec::new();
    format.header(&mut rows)?;
    while pieces.give(std::mem::take(&mut rows)).await? {
        let Some(entries) = export.next().await? else {
            break;
        };
        format.encode(&entries, &mut rows)?;
    }
    Ok(())
}
