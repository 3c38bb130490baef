//! The stylesheet, the script and the picture that pages load. They are part of the program; their addresses carry a hash of
//! their content, so that browsers keep them for ever and still never use an old one.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use maud::{Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};
use utxoiq_store::audit::hex;

use crate::{
    error::ApiError,
    routes::{Call, Routes},
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

static HASH: LazyLock<String> = LazyLock::new(|| {
    let all = Sha256::digest([STYLE, SCRIPT, ICON].concat());
    hex(&all[..6])
});

/// The address of one of them.
pub(super) fn address(name: &str) -> String {
    format!("/dashboard/asset/{}/{name}", *HASH)
}

/// Adds their calls. Everyone may load them: the log-in needs them, and there is nothing in them to know.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Call::open("/dashboard/asset/{hash}/{name}", "What pages load"),
            async |Path((hash, name)): Path<(String, String)>| load(&hash, &name),
        )
        .add(Call::open("/favicon.ico", "The picture"), async || {
            load(&HASH, "icon.svg")
        })
}

fn load(hash: &str, name: &str) -> Response {
    let (kind, content) = match name {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "script.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return ApiError::unknown_path().into_response(),
    };
    // An older program's page may ask for what this one does not have; what it gets then is not kept.
    let keep = if hash == *HASH {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep)];
    (StatusCode::OK, headers, content).into_response()
}

/// The logo.
pub(super) fn logo() -> Markup {
    html! { span.logo aria-hidden="true" { (PreEscaped(ICON)) } }
}
