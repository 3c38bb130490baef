//! Bodies that are not plain JSON: their types, and how they are decompressed without ever holding more than the limit.

use std::io::Read as _;

use axum::{
    body::Bytes,
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, header},
};

use crate::{
    AppState, body,
    error::{ApiError, ApiResult},
};

/// A header's value in lower case without its parameters, and the parameters; empty where it is absent.
pub(super) fn essence(headers: &HeaderMap, name: &HeaderName) -> (String, String) {
    let value = headers.get(name).map(|value| value.to_str());
    let value = value.and_then(Result::ok).unwrap_or_default();
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let plain = |text: &str| text.trim().to_ascii_lowercase();
    (plain(essence), parameters.trim().to_owned())
}

/// 415: what the call takes instead.
pub(super) fn unsupported(detail: &'static str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        detail,
    )
}

/// 400: the body is not what its type says. Neither OpenTelemetry's nor Prometheus's clients send it again.
pub(super) fn undecodable(code: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, code, detail)
}

/// A body as it came, perhaps compressed by gzip.
pub(super) struct Packed {
    bytes: Bytes,
    is_gzip: bool,
    limit: usize,
}

/// Reads a body that may be compressed by gzip.
pub(super) async fn read(request: Request, state: &AppState) -> ApiResult<Packed> {
    let (encoding, _) = essence(request.headers(), &header::CONTENT_ENCODING);
    let is_gzip = match encoding.as_str() {
        "" | "identity" => false,
        "gzip" | "x-gzip" => true,
        _ => {
            return Err(unsupported(
                "send the body as it is or with Content-Encoding: gzip; other encodings are not read",
            ));
        }
    };
    Ok(Packed {
        bytes: body::read(request, state).await?,
        is_gzip,
        limit: state.store.config().server.max_body_bytes,
    })
}

impl Packed {
    /// Does work on the plain body. One that is compressed may be large: it is opened where large ones are worked on, as many at
    /// once as there are processors, and is gone with the work.
    pub async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&Bytes) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let Self {
            bytes,
            is_gzip,
            limit,
        } = self;
        if is_gzip {
            let unpacked = move || work(&Bytes::from(gunzip(&bytes, limit)?));
            body::aside(usize::MAX, unpacked).await
        } else {
            body::aside(bytes.len(), move || work(&bytes)).await
        }
    }
}

/// How many bytes a block of snappy says that it has when it is decompressed; 0 where that cannot be read.
pub(super) fn snapped_length(compressed: &[u8]) -> usize {
    snap::raw::decompress_len(compressed).unwrap_or_default()
}

/// Decompresses gzip; reads no further than one byte beyond the limit.
pub(super) fn gunzip(compressed: &[u8], limit: usize) -> ApiResult<Vec<u8>> {
    let mut plain = Vec::new();
    let beyond = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    flate2::read::MultiGzDecoder::new(compressed)
        .take(beyond)
        .read_to_end(&mut plain)
        .map_err(|error| {
            undecodable(
                "malformed_gzip",
                format!("the body is not gzip that can be read: {error}"),
            )
        })?;
    if plain.len() > limit {
        return Err(ApiError::too_large(limit));
    }
    Ok(plain)
}

/// Decompresses a block of snappy. It begins with the length of what is in it: a larger one is refused before anything is
/// made of it.
pub(super) fn unsnap(compressed: &[u8], limit: usize) -> ApiResult<Vec<u8>> {
    let malformed = |error: snap::Error| {
        undecodable(
            "malformed_snappy",
            format!("the body is not a block of snappy that can be read: {error}"),
        )
    };
    let claimed = match snap::raw::decompress_len(compressed) {
        // It cannot say a length beyond 32 bits, and does not take one as broken.
        Err(snap::Error::TooBig { .. }) => usize::MAX,
        other => other.map_err(malformed)?,
    };
    if claimed > limit {
        return Err(ApiError::too_large(limit));
    }
    snap::raw::Decoder::new()
        .decompress_vec(compressed)
        .map_err(malformed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_larger_than_the_limit_when_decompressed_is_refused() {
        let bomb = vec![0; 10_000_000];
        let (gzipped, snapped) = (
            gzip(&bomb),
            snap::raw::Encoder::new().compress_vec(&bomb).unwrap(),
        );
        assert!(gzipped.len() < 20_000);
        for (result, name) in [
            (gunzip(&gzipped, 9_999_999), "gzip"),
            (unsnap(&snapped, 9_999_999), "snappy"),
            // A claim of nearly 4 GiB with nothing behind it.
            (unsnap(b"\xff\xff\xff\xff\x0f", 1_000), "a claim"),
        ] {
            assert_eq!(result.unwrap_err().status(), 413, "{name}");
        }
        let more = unsnap(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 1_000);
        assert!(more.unwrap_err().status().is_client_error());
        assert_eq!(gunzip(&gzipped, 10_000_000).unwrap(), bomb);
        assert_eq!(unsnap(&snapped, 10_000_000).unwrap(), bomb);
    }

    #[test]
    fn what_is_torn_is_refused() {
        let plain = b"some text, and some text again, and some text again".repeat(9);
        let (gzipped, snapped) = (
            gzip(&plain),
            snap::raw::Encoder::new().compress_vec(&plain).unwrap(),
        );
        for end in 1..gzipped.len() {
            assert_eq!(
                gunzip(&gzipped[..end], 9_999).unwrap_err().status(),
                400,
                "{end}"
            );
        }
        for end in 0..snapped.len() {
            assert_eq!(
                unsnap(&snapped[..end], 9_999).unwrap_err().status(),
                400,
                "{end}"
            );
        }
    }
}
