//! Where the next page is (RFC 8288): the address that was asked for, with a cursor.

use axum::http::{HeaderName, HeaderValue, header};
use utxoiq_store::error::Error;

use crate::{error::ApiResult, input};

/// What another page does not take over: where it begins is the cursor's to say.
const REPLACED: [&str; 2] = ["cursor", "offset"];

/// The address of the next page: relative, with all parameters of this one, as they were written.
pub(crate) fn next(path: &str, query: &str, cursor: &str) -> String {
    let mut next = format!("{path}?");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let name = input::decode(name).unwrap_or_default();
        if !REPLACED.contains(&&*name) {
            push(&mut next, pair);
            next.push('&');
        }
    }
    // Cursors are letters, digits, - and _.
    next.push_str("cursor=");
    next.push_str(cursor);
    next
}

/// Adds what a client wrote, without what would end the address in a header or a document.
fn push(next: &mut String, pair: &str) {
    for byte in pair.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                next.push_str(&format!("%{byte:02X}"));
            }
            0x21..0x7f => next.push(char::from(byte)),
            _ => next.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// The header that names it.
pub(crate) fn header(next: &str) -> ApiResult<(HeaderName, HeaderValue)> {
    let value = HeaderValue::try_from(format!("<{next}>; rel=\"next\""))
        .map_err(|error| Error::internal("an address is no header").with_source(error))?;
    Ok((header::LINK, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_as_this_one_was() {
        let link = next(
            "/a",
            "x=1&&offset=5&y=%C3%A4+b&%63ursor=old&z=<\">\\é",
            "abc",
        );
        assert_eq!(link, "/a?x=1&y=%C3%A4+b&z=%3C%22%3E%5C%C3%A9&cursor=abc");
        let (_, value) = header(&link).unwrap();
        assert_eq!(value.to_str().unwrap(), format!("<{link}>; rel=\"next\""));
        assert_eq!(next("/a", "", "abc"), "/a?cursor=abc");
    }
}
