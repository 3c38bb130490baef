//! The OpenAPI document, made from the same table as the router ([`crate::routes`]).

use std::sync::LazyLock;

use axum::{http::header, response::IntoResponse};
use utoipa::{
    ToSchema,
    openapi::{
        ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::{
    api,
    error::ProblemBody,
    routes::{Call, Routes, SECURITY_SCHEMES},
};

const ABOUT: &str = "Keeps utxoIQ's backfill jobs, feedback and metrics. Times are RFC 3339 in UTC; errors are \
    `application/problem+json` with a stable `code`; every answer carries `X-Request-Id`.";

/// The document of all calls.
pub fn document() -> OpenApi {
    describe(&api::routes())
}

/// The document of these calls.
pub fn describe(routes: &[Routes]) -> OpenApi {
    let mut document = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("utxoIQ Store")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(ABOUT)),
        )
        .paths(PathsBuilder::new())
        .build();
    let mut schemas = Vec::new();
    ProblemBody::schemas(&mut schemas);
    schemas.push((
        ProblemBody::name().into_owned(),
        <ProblemBody as utoipa::PartialSchema>::schema(),
    ));
    for slice in routes {
        slice.describe(&mut document, &mut schemas);
    }
    let schemes = [
        (
            "A service token, uqs_…; the scopes named at a call are what the token must have.",
            None,
        ),
        (
            "An end user's token of the configured identity provider (OpenID Connect), a JWT; its roles must give the scopes named at a call.",
            Some("JWT".to_owned()),
        ),
    ];
    let mut components = ComponentsBuilder::new().schemas_from_iter(schemas);
    for (name, (description, format)) in SECURITY_SCHEMES.into_iter().zip(schemes) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(description.into());
        scheme.bearer_format = format;
        components = components.security_scheme(name, SecurityScheme::Http(scheme));
    }
    document.components = Some(components.build());
    document
}

/// The document as it is checked in and served: pretty, and the same bytes each time.
pub fn json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        let mut text = document().to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    });
    &JSON
}

/// The document's own call.
pub fn routes() -> Routes {
    Routes::new("service", "The service itself").add(
        Call::open("/openapi.json", "This document")
            .answers_document("application/json", "OpenAPI 3.1"),
        async || ([(header::CONTENT_TYPE, "application/json")], json()).into_response(),
    )
}
