//! Erasing a person.

use std::time::Duration;

use axum::{Json, extract::State};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utxoiq_store::{Error, retention, token::Scope};
use uuid::Uuid;

use super::MAX_ID;
use crate::{
    AppState,
    api::retention::actor,
    auth::Authenticated,
    error::ApiResult,
    input::Body,
    routes::{Call, Routes},
};

/// Whose.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EraseFeedback)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct Erase {
    /// The person's user id.
    #[schema(min_length = 1, max_length = 100)]
    pub user_id: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasedFeedback)]
pub struct Erased {
    /// `erased`, or `running`: it goes on after this answer, and the same call again says how far it is.
    pub status: &'static str,
    /// The same in words.
    pub message: String,
    /// The proof; null while it runs.
    pub certificate: Option<Certificate>,
}

/// What was erased, and the proof. It names the person by pseudonym only.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasureCertificate)]
pub struct Certificate {
    /// The erasure's id.
    pub erasure: Uuid,
    /// The person, as the audit log calls them.
    pub pseudonym: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// Who asked first.
    pub requested_by: String,
    /// When it was done.
    pub finished_at: DateTime<Utc>,
    /// Rows of feedback that were taken out of the database.
    pub feedback_rows: i64,
    /// Acts that were taken out of its history.
    pub history_rows: i64,
    /// Rows that were taken out of archives.
    pub archived_rows: i64,
    /// The archives that were written anew.
    pub archives: Vec<Rewritten>,
    /// SHA-256 over `archives`, as the audit log has it.
    pub archives_sha256: String,
    /// The certificate's number in the audit log.
    pub audited_as: i64,
}

/// An archive that was written anew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RewrittenArchive)]
pub struct Rewritten {
    /// Of which dataset.
    pub dataset: String,
    /// Of which day (UTC).
    pub day: NaiveDate,
    /// The archive that had the rows; its object is gone.
    pub old: Uuid,
    /// The one in its place.
    pub new: Uuid,
    /// How many rows it lacks.
    pub dropped_rows: i64,
    /// The hash of the old object.
    pub old_sha256: String,
    /// The hash of the new one.
    pub new_sha256: String,
    /// The digest of the old content.
    pub old_content_sha256: String,
    /// The digest of the new content.
    pub new_content_sha256: String,
}

impl From<retention::Certificate> for Certificate {
    fn from(certificate: retention::Certificate) -> Self {
        Self {
            erasure: certificate.erasure,
            pseudonym: certificate.pseudonym,
            requested_at: certificate.requested_at,
            requested_by: certificate.requested_by,
            finished_at: certificate.finished_at,
            feedback_rows: certificate.feedback_rows,
            history_rows: certificate.history_rows,
            archived_rows: certificate.archived_rows,
            archives: certificate.archives.into_iter().map(Into::into).collect(),
            archives_sha256: certificate.archives_sha256,
            audited_as: certificate.audited_as,
        }
    }
}

impl From<retention::Rewritten> for Rewritten {
    fn from(archive: retention::Rewritten) -> Self {
        Self {
            dataset: archive.dataset,
            day: archive.day,
            old: archive.old,
            new: archive.new,
            dropped_rows: archive.dropped_rows,
            old_sha256: archive.old_sha256,
            new_sha256: archive.new_sha256,
            old_content_sha256: archive.old_content_sha256,
            new_content_sha256: archive.new_content_sha256,
        }
    }
}

/// Adds the call.
pub fn add(routes: Routes) -> Routes {
    routes.add(
        Call::post("/api/v1/feedback/erase", Scope::FeedbackErase, "Erase everything that a person gave")
            .describe(
                "Takes it out of the database at once, then out of every archive, and writes a certificate into the audit \
                 log. Statistics stay exact. The answer comes when it is done, or after two thirds of the request's time \
                 limit, whichever is earlier; it goes on, and so does the nightly run where it was interrupted. Backups \
                 that were made before keep the person's rows until they are pruned.",
            )
            .body::<Erase>()
            .answers::<Erased>("what was erased")
            .refuses(409, "legal_hold", "something that the person gave is under a legal hold")
            .refuses(409, "erasure_running", "another erasure is under way; this one is recorded, and the next run goes on with it")
            .refuses(409, "erasure_unfinished", "something came in between again and again; the next run goes on with it")
            .refuses(409, "retention_not_configured", "this service has no connection of the role that archives")
            .refuses(409, "no_cold_store", "there are archives, and no cold store is configured")
            .refuses(409, "no_pseudonym_key", "the person cannot be named in the audit log"),
        erase,
    )
}

async fn erase(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    Body(mut body): Body,
) -> ApiResult<Json<Erased>> {
    let user = body.name("user_id", 1..=MAX_ID);
    body.finish()?;
    let (store, actor) = (state.store.clone(), actor(&state.store, &caller)?);
    let now = store.now();
    // A task of its own: the caller may go away, and what was begun goes on.
    let running = tokio::spawn(async move {
        let ended: Result<_, Error> =
            async { store.retention()?.erase(&user, now, &actor).await }.await;
        // Whoever asked may have been answered that it goes on.
        if let Err(error) = &ended {
            tracing::warn!(error = %error.report(), "an erasure that was asked for did not succeed");
        }
        ended
    });
    let patience = Duration::from_secs(state.store.config().server.request_timeout_seconds) * 2 / 3;
    let Ok(ended) = tokio::time::timeout(patience, running).await else {
        return Ok(Json(Erased {
            status: "running",
            message: "what is in the database is being erased first; archives are still being written anew, which goes on: \
                      send the request again to learn how it ends"
                .into(),
            certificate: None,
        }));
    };
    let certificate =
        ended.map_err(|error| Error::internal("an erasure ended early").with_source(error))??;
    Ok(Json(Erased {
        status: "erased",
        message: format!(
            "the certificate is entry {} of the audit log",
            certificate.audited_as
        ),
        certificate: Some(certificate.into()),
    }))
}
