//! Versions of the store, so that a caller sees what it wrote, wherever it reads.
//!
//! A write's answer carries the header `Store-Version`: the transaction that made it. A read that sends the header back is
//! answered from nothing that does not show this transaction, whichever process answers and whatever is in a cache. Without
//! it, a read after a write through another process may be up to a second behind it.
//!
//! ```text
//! POST /api/v1/feedback/rate                    → 200, Store-Version: 81234
//! GET  /api/v1/feedback/stats?insight_id=…
//!      Store-Version: 81234                     → 200, with that rating counted
//! ```
//!
//! A version says nothing about the order of writes: a caller that has made several sends the one that it wants to see.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::{IntoResponse, Response},
};
use utxoiq_store::{db::TransactionId, error::Error};

use crate::error::{ApiError, ApiResult};

/// The header's name, as it is written.
pub const NAME: &str = "Store-Version";

static HEADER: HeaderName = HeaderName::from_static("store-version");

/// Extracts the version that the caller wants to see, if it names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen(pub Option<TransactionId>);

/// An answer to a write, with the version that it made.
#[derive(Debug)]
pub struct Versioned<T>(pub TransactionId, pub T);

impl<S: Sync> FromRequestParts<S> for Seen {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        read(&parts.headers).map(Self)
    }
}

fn read(headers: &HeaderMap) -> ApiResult<Option<TransactionId>> {
    if !headers.contains_key(&HEADER) {
        return Ok(None);
    }
    let mut values = headers.get_all(&HEADER).iter();
    match (values.next().and_then(number), values.next()) {
        (Some(number), None) => Ok(Some(TransactionId(number))),
        (_, Some(_)) => Err(Error::field(NAME, "must be sent once").into()),
        (None, None) => Err(Error::field(
            NAME,
            "must be a version as a write's answer has it: a number",
        )
        .into()),
    }
}

/// Decimal digits and nothing else.
fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

impl<T: IntoResponse> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        versioned(self.1.into_response(), Some(self.0))
    }
}

/// An answer with the version of the write that it tells of, where there was one.
pub(crate) fn versioned(mut response: Response, version: Option<TransactionId>) -> Response {
    if let Some(TransactionId(number)) = version {
        response
            .headers_mut()
            .insert(&HEADER, HeaderValue::from(number));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> ApiResult<Option<TransactionId>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        read(&headers)
    }

    #[test]
    fn a_version_is_a_number_of_64_bits_sent_once() {
        assert_eq!(of(&[]).unwrap(), None);
        for (text, number) in [("0", 0), ("007", 7), ("18446744073709551615", u64::MAX)] {
            let read = of(&[text.as_bytes()]).unwrap();
            assert_eq!(read, Some(TransactionId(number)), "{text}");
        }
        let refused: [&[&[u8]]; 10] = [
            &[b""],
            &[b" "],
            &[b"x"],
            &[b"-1"],
            &[b"+1"],
            &[b"1.0"],
            &[b"18446744073709551616"],
            &["٥".as_bytes()],
            &[b"1,2"],
            &[b"1", b"1"],
        ];
        for bad in refused {
            let error = of(bad).unwrap_err();
            assert_eq!(error.status(), 422);
            assert_eq!(error.errors()[0].field, NAME);
        }
    }
}
