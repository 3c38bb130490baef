//! What is tried on every parser of this crate that meets the network or the cold store, by a search for inputs that break it
//! (`./dev fuzz`) and by the tests, which go through the inputs in `fuzz/corpus/` and some thousand others.
//!
//! A target takes any bytes and panics where a parser does not hold what it promises: nothing makes it panic, what it
//! accepts is written and read again as the same, and what it refuses it refuses as what it is: the caller's or the store's
//! fault, never as a fault of ours. How much memory an input may take is measured by the search.

use std::{fmt, str::FromStr};

use crate::{
    Error, Kind,
    audit::{self, Anchor},
    backup::{self, region::Location},
    cache, cold,
    config::Loader,
    db::{Snapshot, TransactionId},
    feedback,
    metrics::{
        read::page::{SampleCursor, SeriesCursor, StreamCursor},
        sketch::Sketch,
    },
    retention::ArchiveCursor,
    token,
};

/// A name, and what is tried.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of this crate. A parser that is added gets a line here and an input in `fuzz/corpus/<name>/`.
pub const TARGETS: &[Target] = &[
    ("archive", cold::fuzz::archive),
    ("archive_manifest", cold::fuzz::manifest),
    ("backup_manifest", backup::fuzz::manifest),
    ("cache_envelope", cache::fuzz::envelope),
    ("cache_head", cache::fuzz::head),
    ("config", config),
    ("copy_rows", cold::fuzz::copy_rows),
    ("cursors", cursors),
    ("object_keys", cold::fuzz::keys),
    ("regions", regions),
    ("sketch", sketch),
    ("snapshot", snapshot),
    ("tokens", token::fuzz::tokens),
];

/// What a text says is said by one text, and what is none is the caller's fault.
fn one_spelling<T: FromStr<Err = Error> + fmt::Display + PartialEq + fmt::Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(read) => {
            let again = read.to_string().parse::<T>();
            assert_eq!(again.ok().as_ref(), Some(&read), "{text:?}");
        }
        Err(error) => assert_eq!(error.kind(), Kind::Invalid, "{text:?}: {error}"),
    }
}

fn cursors(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    one_spelling::<ArchiveCursor>(text);
    one_spelling::<SampleCursor>(text);
    one_spelling::<StreamCursor>(text);
    one_spelling::<SeriesCursor>(text);
    one_spelling::<feedback::Cursor>(text);
    one_spelling::<audit::Cursor>(text);
    match text.parse::<Anchor>() {
        Ok(anchor) => {
            let written = format!("{}:{}", anchor.sequence, audit::hex(&anchor.hash));
            assert_eq!(written.parse::<Anchor>().ok(), Some(anchor));
        }
        Err(error) => assert_eq!(error.kind(), Kind::Invalid),
    }
}

fn snapshot(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(read) = text.parse::<Snapshot>() {
        assert_eq!(read.to_string().parse::<Snapshot>().ok(), Some(read));
    }
    if let Ok(id) = text.parse::<TransactionId>() {
        assert_eq!(id.to_string().parse::<TransactionId>().ok(), Some(id));
    }
}

fn sketch(bytes: &[u8]) {
    if let Ok(read) = Sketch::decode(bytes) {
        assert_eq!(read.encode(), bytes, "one sketch has one form");
        for quantile in [0.0, 0.5, 0.99, 1.0] {
            let value = read.quantile(quantile);
            assert!(value.is_none_or(f64::is_finite), "{value:?}");
        }
    }
}

fn regions(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(error) = Location::parse(text)
    {
        assert_eq!(error.kind(), Kind::Invalid, "{text:?}");
    }
}

/// A configuration that is not right is told so, and its secrets are not told.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = Loader::default().text(text).and_then(Loader::finish) {
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_input_and_thousands_like_it_break_no_parser() {
        super::replay::all(TARGETS);
    }

    #[test]
    #[ignore = "writes fuzz/corpus anew, where a form has changed"]
    fn seeds() {
        let cold = cold::fuzz::seeds().into_iter();
        for (target, name, bytes) in cold
            .chain(backup::fuzz::seeds())
            .chain(cache::fuzz::seeds())
        {
            super::replay::seed(target, name, &bytes);
        }
    }
}
