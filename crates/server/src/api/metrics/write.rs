//! The contract's calls: one sample or a batch, recorded whole or not at all.
//!
//! A batch that is plainly right, as nearly all are, goes from the body's bytes into the store's [`Batch`] without a tree of
//! JSON values between ([`fast`]). Everything else is read field by field ([`general`]), which knows every form that is
//! accepted, and what to say of one that is not. A test holds that both read the same.

pub(super) mod fast;
pub(super) mod general;

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utxoiq_store::{
    error::{Error, FieldError},
    metrics::{
        Accept, Batch, MAX_METRIC_TYPE, MAX_SERVICE_NAME, MAX_UNIT, Outcome, Reason, Recorded,
        RequestKey,
    },
    token::{Caller, Identity},
};

use super::{
    records,
    wire::{self, Metric, NewMetric},
};
use crate::{
    AppState,
    api::ready_json,
    auth::Authenticated,
    error::{ApiError, ApiResult},
    input,
    routes::{Call, Routes},
    version::versioned,
};

pub(super) use fast::line as fast_line;

/// The most samples of a batch.
const MAX_BATCH: usize = 10_000;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

static IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// How long names may be, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub service_name: usize,
    pub metric_type: usize,
    pub unit: usize,
}

impl Lengths {
    /// In the contract's calls.
    pub const CONTRACT: Self = Self {
        service_name: MAX_SERVICE_NAME,
        metric_type: 50,
        unit: 20,
    };

    /// In the store, which has what other protocols bring, too.
    pub const STORE: Self = Self {
        service_name: MAX_SERVICE_NAME,
        metric_type: MAX_METRIC_TYPE,
        unit: MAX_UNIT,
    };
}

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            call("/api/v1/monitoring/metrics", "Record a sample")
                .describe(
                    "A sample with a time may be sent again: it is a `duplicate`. One with another value at the same time is a \
                     `conflict`: the first value stays, and is shown. Without a time it gets the server's, unlike that of any \
                     other sample of its series; sent again, it is recognised by `Idempotency-Key`.",
                )
                .body::<NewMetric>()
                .answers::<Metric>("the sample as it is stored")
                .tells_version(),
            record_one,
        )
        .add(
            call("/api/v1/monitoring/metrics/batch", "Record samples, all or none")
                .describe(
                    "At most 10,000 samples. With one that is not accepted none is stored, and `errors` names its position: \
                     `1.metric_value`. The answer has the samples in their order.",
                )
                .body_list::<NewMetric>()
                .answers_list::<Metric>("the samples as they are stored, in their order")
                .tells_version(),
            record_batch,
        )
}

fn call(path: &'static str, summary: &'static str) -> Call {
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[!-~]{1,255}$"));
    records(path, summary)
        .header(
            IDEMPOTENCY_KEY,
            "Names the request, at most 255 visible characters: within 24 hours a second one of the same token, with the same key \
             and the same body, is answered as the first and stores nothing.",
            key,
        )
        .refuses(
            409,
            "idempotency_key_reused",
            "the key was sent with another body",
        )
        .refuses(
            422,
            "too_many_series",
            "a service has as many series as it may have, or there are as many services as may be",
        )
}

async fn record_one(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> ApiResult<Response> {
    let key = key_of(request.headers());
    let body = input::json_bytes(request, &state).await?;
    let batch = fast::one(&body, Lengths::CONTRACT)
        .map_or_else(|| general::one(&body, Lengths::CONTRACT), Ok)?;
    let key = request_key(key?, &caller, &body);
    record(&state, batch, key, false).await
}

async fn record_batch(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> ApiResult<Response> {
    let key = key_of(request.headers());
    let body = input::json_bytes(request, &state).await?;
    let bytes = body.clone();
    let batch = crate::body::aside(body.len(), move || {
        fast::batch(&bytes, Lengths::CONTRACT, MAX_BATCH)
            .map_or_else(|| general::batch(&bytes, Lengths::CONTRACT, MAX_BATCH), Ok)
    })
    .await?;
    let key = request_key(key?, &caller, &body);
    record(&state, batch, key, true).await
}

/// Records a batch whole, and shows its samples.
async fn record(
    state: &AppState,
    batch: Batch,
    key: Option<RequestKey>,
    as_array: bool,
) -> ApiResult<Response> {
    let (names, sent) = (batch.names().to_vec(), batch.samples().to_vec());
    let recorded = if sent.is_empty() {
        Recorded {
            samples: Vec::new(),
            transaction: None,
        }
    } else {
        let now = state.store.now();
        let recording = state.store.metrics();
        recording.record(batch, Accept::Whole, key, now).await?
    };
    refuse_rejected(&recorded, as_array)?;
    let version = recorded.transaction;
    let about = sent.len() * wire::BYTES_OF_ONE;
    let json = crate::body::aside(about, move || {
        wire::write(&names, &sent, &recorded.samples, as_array).map_err(|error| {
            Error::internal("samples cannot be written")
                .with_source(error)
                .into()
        })
    });
    Ok(versioned(ready_json(json.await?.into()), version))
}

/// With a rejection in it, nothing of a batch was stored: every rejected field is named.
fn refuse_rejected(recorded: &Recorded, as_array: bool) -> ApiResult<()> {
    let mut is_limit = false;
    let mut errors = Vec::new();
    for (index, sample) in recorded.samples.iter().enumerate() {
        if let Outcome::Rejected(rejection) = &sample.outcome {
            is_limit |= matches!(
                rejection.reason,
                Reason::TooManySeries | Reason::TooManyServices
            );
            let field = if as_array {
                format!("{index}.{}", rejection.field)
            } else {
                rejection.field.to_owned()
            };
            errors.push(FieldError::new(field, rejection.message.clone()));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let refusal = ApiError::from(Error::fields(errors));
    Err(if is_limit {
        refusal.with_code("too_many_series")
    } else {
        refusal
    })
}

/// The key by which a repeated request is recognised, if one was sent.
fn key_of(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let refuse = |message: &str| Err(Error::field(IDEMPOTENCY_KEY, message).into());
    let mut values = headers.get_all(&IDEMPOTENCY_KEY_HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return refuse("must be sent once");
    }
    let bytes = value.as_bytes();
    if !(1..=MAX_KEY).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return refuse("must have 1 to 255 visible ASCII characters");
    }
    Ok(value.to_str().ok().map(str::to_owned))
}

fn request_key(key: Option<String>, caller: &Caller, body: &Bytes) -> Option<RequestKey> {
    // A user's id stands where it can be erased, and nowhere else.
    let caller = || match caller.identity {
        Identity::Token { .. } => caller.key(),
        Identity::User => {
            let hash = Sha256::digest(caller.key());
            format!("user:{}", URL_SAFE_NO_PAD.encode(hash))
        }
    };
    key.map(|key| RequestKey {
        caller: caller(),
        key,
        digest: Sha256::digest(body).into(),
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_has_1_to_255_visible_characters() {
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    &IDEMPOTENCY_KEY_HEADER,
                    HeaderValue::from_bytes(value).unwrap(),
                );
            }
            key_of(&headers)
        };
        assert_eq!(of(&[]).unwrap(), None);
        for good in [&b"a"[..], b"a-b_c!~", &[b'x'; 255]] {
            assert!(of(&[good]).unwrap().is_some());
        }
        for bad in [&b""[..], b" ", b"a b", b"a\tb", b"\xff", &[b'x'; 256]] {
            let error = of(&[bad]).unwrap_err();
            assert_eq!(error.errors()[0].field, IDEMPOTENCY_KEY, "{bad:?}");
        }
        assert!(of(&[b"a", b"a"]).is_err());
    }
}
