//! Reading a request: body, query and path become checked values, and all rejected fields are told at once.
//!
//! ```text
//! async fn progress(Query(mut query): Query, Body(mut body): Body) -> ApiResult<Json<Job>> {
//!     let job_id = query.uuid("job_id");
//!     let current_block = body.int("current_block", 0..=MAX_BLOCK);
//!     let status = body.optional_one_of("status", STATUSES);
//!     query.and(body).finish()?; // from here on all values are what they say
//! ```
//!
//! # What it guarantees
//!
//! * Nothing a client can send fails here in any other way than with a 4xx that names the field.
//! * What a reader returns is in range, or [`Input::finish`] refuses. A rejected field reads as an empty value until
//!   then, so that the fields after it are checked too.
//!
//! # What is accepted
//!
//! An explicit `null` is an absent field, and unknown fields are ignored. Whole numbers may be written `5`, `5.0` and
//! `"5"`, other numbers also as strings; booleans are not numbers. Lengths count characters. Text never holds NUL,
//! which PostgreSQL cannot store. Times are RFC 3339, without an offset UTC, and cut to microseconds.

mod json;
mod read;

use std::borrow::Cow;

pub use read::FINITE;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, header, request::Parts},
};
use serde_json::{Map, Value};
use utxoiq_store::error::{Error, FieldError};

use crate::{
    AppState, body,
    error::{ApiError, ApiResult},
};

/// The fields of a body, a query or a path, and what was found wrong with them.
#[derive(Debug, Clone)]
#[must_use = "call finish(): until then a rejected field reads as an empty value"]
pub struct Input {
    fields: Map<String, Value>,
    /// What the names of nested fields begin with in errors.
    prefix: String,
    errors: Vec<FieldError>,
    /// Whether there are no fields to speak of: one error says it all.
    is_hopeless: bool,
}

/// Extracts the fields of a JSON object in the body; anything else is refused.
#[derive(Debug)]
pub struct Body(pub Input);

/// Extracts whatever JSON document the body is.
#[derive(Debug)]
pub struct Document(pub Value);

/// Extracts the query's fields. Of a repeated one the last counts.
#[derive(Debug)]
pub struct Query(pub Input);

/// Extracts the path's fields.
#[derive(Debug)]
pub struct Path(pub Input);

impl Input {
    /// The fields of a JSON object.
    pub fn body(document: Value) -> ApiResult<Self> {
        match document {
            Value::Object(fields) => Ok(Self::new(fields, String::new())),
            other => Err(Error::field(
                "",
                format!(
                    "the body must be a JSON object, found {}",
                    read::kind(&other)
                ),
            )
            .into()),
        }
    }

    /// The objects of a JSON array, at most `max` of them. Errors name the position: `3.unit`.
    pub fn items(document: Value, max: usize) -> ApiResult<Vec<Self>> {
        let items = match document {
            Value::Array(items) if items.len() <= max => items,
            Value::Array(items) => {
                let message = format!(
                    "at most {max} items are accepted at once, found {}",
                    items.len()
                );
                return Err(Error::field("", message).into());
            }
            other => {
                let message = format!(
                    "the body must be a JSON array, found {}",
                    read::kind(&other)
                );
                return Err(Error::field("", message).into());
            }
        };
        let inputs = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| match item {
                Value::Object(fields) => Self::new(fields, format!("{index}.")),
                other => {
                    let mut input = Self::new(Map::new(), String::new());
                    let message = format!("must be a JSON object, found {}", read::kind(&other));
                    input.refuse(&index.to_string(), message);
                    input.is_hopeless = true;
                    input
                }
            });
        Ok(inputs.collect())
    }

    /// The fields of a query string, without its question mark.
    pub fn query(query: &str) -> ApiResult<Self> {
        let mut fields = Map::new();
        let mut errors = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => {
                    fields.insert(name.into_owned(), Value::String(value.into_owned()));
                }
                (Some(name), None) => errors.push(FieldError::new(name, ENCODING)),
                (None, _) => errors.push(FieldError::new(
                    "",
                    format!("a parameter's name {ENCODING}"),
                )),
            }
        }
        if errors.is_empty() {
            Ok(Self::new(fields, String::new()))
        } else {
            Err(Error::fields(errors).into())
        }
    }

    fn new(fields: Map<String, Value>, prefix: String) -> Self {
        Self {
            fields,
            prefix,
            errors: Vec::new(),
            is_hopeless: false,
        }
    }

    /// The same without fields that were left empty, as a page's form sends them.
    pub fn without_blanks(mut self) -> Self {
        let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
        self.fields.retain(|_, value| !is_blank(value));
        self
    }

    /// Rejects a field for a reason found by the caller.
    pub fn refuse(&mut self, field: &str, message: impl Into<String>) {
        if self.is_hopeless {
            return;
        }
        let field = format!("{}{field}", self.prefix);
        // Also where it is read twice, a field is named once.
        if self.errors.iter().all(|known| known.field != field) {
            self.errors.push(FieldError::new(field, message));
        }
    }

    /// Takes over the errors of another part of the same request, so that one `finish` tells all.
    pub fn and(mut self, mut other: Self) -> Self {
        self.errors.append(&mut other.errors);
        self
    }

    /// Fails with every rejected field; after it all values read are in range.
    pub fn finish(self) -> ApiResult<()> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Error::fields(self.errors).into())
        }
    }
}

const ENCODING: &str = "is not percent-encoded UTF-8";

/// Decodes `%XX` and `+`. `None` where an escape is torn or the bytes are no UTF-8: guessing would look up another id.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// JSON, also with a suffix (`application/merge-patch+json`), or no content type at all.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let value = value.to_str().unwrap_or_default();
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || essence
            .strip_prefix("application/")
            .is_some_and(|subtype| subtype.ends_with("+json"))
}

/// Compressed bodies are not read: their true size would have to be bounded as well.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Reads the body of a request that says it is JSON, not compressed, without parsing it.
pub(crate) async fn json_bytes(request: Request, state: &AppState) -> ApiResult<Bytes> {
    if !is_json(request.headers()) || is_encoded(request.headers()) {
        return Err(ApiError::unsupported_media_type());
    }
    body::read(request, state).await
}

/// Parses one JSON document.
pub(crate) fn document(bytes: &[u8]) -> ApiResult<Value> {
    json::parse(bytes).map_err(|detail| ApiError::malformed("malformed_json", detail))
}

impl FromRequest<AppState> for Document {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> ApiResult<Self> {
        let bytes = json_bytes(request, state).await?;
        body::aside(bytes.len(), move || document(&bytes).map(Self)).await
    }
}

impl FromRequest<AppState> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> ApiResult<Self> {
        let Document(document) = Document::from_request(request, state).await?;
        Input::body(document).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        Input::query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let misread = || Error::field("path", ENCODING);
        // The router takes a torn escape as it stands: `100%` and `100%25` would be one id.
        decode(parts.uri.path()).ok_or_else(misread)?;
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| misread())?;
        let fields = params
            .iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        Ok(Self(Input::new(fields, String::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_repeated_parameter_the_last_counts() {
        let mut query = Input::query("a=1&a=2&&b=%C3%A4+x&c").unwrap();
        assert_eq!(query.int("a", 0..=9), 2);
        assert_eq!(query.text("b", 1..=9), "ä x");
        assert_eq!(query.text("c", 0..=9), "");
        query.finish().unwrap();
    }

    #[test]
    fn a_parameter_that_cannot_be_decoded_is_refused_by_name() {
        for value in ["%", "%4", "%zz", "%+4", "%ff", "%ed%a0%80", "%c3"] {
            let error = Input::query(&format!("ok=1&bad={value}")).expect_err(value);
            assert_eq!(error.status(), 422);
            assert_eq!(error.errors()[0].field, "bad");
        }
        assert!(Input::query("%ff=1").is_err());
        assert_eq!(decode("%41%6a%2B"), Some("Aj+".into()));
    }

    #[test]
    fn json_content_types_are_accepted_and_others_are_not() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        assert!(is_json(&HeaderMap::new()));
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
        ] {
            assert!(with(yes), "{yes}");
        }
        for no in [
            "text/plain",
            "text/json",
            "application/jsonx",
            "application/x-www-form-urlencoded",
            "",
            "json",
        ] {
            assert!(!with(no), "{no}");
        }
    }

    #[test]
    fn items_name_their_position() {
        let items = serde_json::json!([{"n": 1}, {"n": "x"}, 7]);
        let mut first = Input::items(items, 3).unwrap().into_iter().map(|mut item| {
            item.int("n", 0..=9);
            item
        });
        let all = first.by_ref().reduce(Input::and).unwrap();
        let error = all.finish().unwrap_err();
        let fields: Vec<_> = error
            .errors()
            .iter()
            .map(|error| error.field.as_str())
            .collect();
        assert_eq!(fields, ["1.n", "2"]);
        assert!(Input::items(serde_json::json!([1, 2]), 1).is_err());
        assert!(Input::items(serde_json::json!([1, 2]), 2).is_ok());
        assert!(Input::items(serde_json::json!({}), 2).is_err());
    }
}
