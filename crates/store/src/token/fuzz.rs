//! What a presented token, and a list of scopes, may be.

use super::{Scope, secret};
use crate::Kind;

/// A token has one spelling; scopes are written as they are read.
pub fn tokens(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(presented) = secret::Presented::parse(text) {
        assert!(text.starts_with(&format!("uqs_{}_", presented.id.simple())));
        assert!(secret::has_form(text));
        let upper = text.to_ascii_uppercase();
        assert!(upper == text || secret::Presented::parse(&upper).is_none());
    } else {
        assert!(!secret::has_form(text));
    }
    match Scope::parse_list(text) {
        Ok(scopes) => {
            let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
            assert_eq!(Scope::parse_list(&names.join(",")).ok(), Some(scopes));
        }
        Err(error) => assert_eq!(error.kind(), Kind::Invalid),
    }
}
