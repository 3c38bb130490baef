//! A call's declaration as an operation of the OpenAPI document.

use utoipa::{
    ToSchema as _,
    openapi::{
        Content, Header, HeaderBuilder, HttpMethod, Ref, Required,
        path::{Operation, OperationBuilder},
        request_body::{RequestBody, RequestBodyBuilder},
        response::ResponseBuilder,
        schema::{ObjectBuilder, Type},
        security::SecurityRequirement,
    },
};

use super::{Access, Call, SECURITY_SCHEMES};
use crate::{
    error::{PROBLEM_JSON, ProblemBody},
    rate_limit,
};

impl Call {
    /// `post_backfill_start`: for generated clients.
    fn operation_id(&self) -> String {
        let path = self
            .path
            .trim_start_matches("/api/v1")
            .replace(['{', '}'], "");
        let words = path.split(['/', '-', '.']).filter(|word| !word.is_empty());
        std::iter::once(method_name(&self.method))
            .chain(words)
            .collect::<Vec<_>>()
            .join("_")
    }

    /// The headers of every answer to a limited caller: an open call has no caller.
    fn limit_headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.access {
            Access::Open | Access::Page(_) | Access::Fragment(_) => &[],
            Access::Authenticated | Access::Needs(_) => &LIMIT_HEADERS,
        }
    }

    fn request_body(&self) -> Option<RequestBody> {
        let required = if self.body_is_required {
            Required::True
        } else {
            Required::False
        };
        let body = RequestBodyBuilder::new().required(Some(required));
        let contents = self.bodies.iter().cloned();
        let body = contents.fold(body, |body, (content_type, schema)| {
            body.content(content_type, Content::new(Some(schema)))
        });
        (!self.bodies.is_empty()).then(|| body.build())
    }

    pub(super) fn operation(&self, tag: &str) -> Operation {
        let mut operation = OperationBuilder::new()
            .tag(tag)
            .operation_id(Some(self.operation_id()))
            .summary(Some(self.summary))
            .description((!self.description.is_empty()).then_some(self.description))
            .parameters((!self.parameters.is_empty()).then(|| self.parameters.clone()))
            .request_body(self.request_body());
        let scopes = match self.access {
            Access::Open | Access::Page(_) | Access::Fragment(_) => None,
            Access::Authenticated => Some(vec![]),
            Access::Needs(scope) => Some(vec![scope.as_str()]),
        };
        if let Some(scopes) = scopes {
            for scheme in SECURITY_SCHEMES {
                operation = operation.security(SecurityRequirement::new(scheme, scopes.clone()));
            }
        }
        if let Some(answer) = &self.answer {
            let mut response = ResponseBuilder::new().description(answer.description);
            for (content_type, content) in &answer.contents {
                response = response.content(content_type, content.clone());
            }
            for (name, description) in answer.headers.iter().chain(self.limit_headers()) {
                response = response.header(*name, header(Type::String, description));
            }
            operation = operation.response(answer.status, response);
        }
        for (status, lines) in &self.refusals {
            let problem = Ref::from_schema_name(ProblemBody::name());
            let mut refusal = ResponseBuilder::new()
                .description(lines.join("; "))
                .content(PROBLEM_JSON, Content::new(Some(problem)));
            if matches!(status, 429 | 503) {
                let wait = "In how many seconds the request may be sent again.";
                refusal = refusal.header("Retry-After", header(Type::Integer, wait));
            }
            if *status == 429 {
                for (name, description) in self.limit_headers() {
                    refusal = refusal.header(*name, header(Type::String, description));
                }
            }
            operation = operation.response(status.to_string(), refusal);
        }
        operation.build()
    }
}

/// What the headers say that an answer to a limited caller has.
const LIMIT_HEADERS: [(&str, &str); 2] = [
    (
        rate_limit::POLICY,
        "For callers with a limit, its name, requests and seconds: `\"free\";q=100;w=3600`.",
    ),
    (
        rate_limit::LEFT,
        "For callers with a limit, how many requests more may be made now, and in how many seconds some come back: `\"free\";r=42;t=1800`.",
    ),
];

fn header(kind: Type, description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .description(Some(description))
        .build()
}

pub(super) fn method_name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Post => "post",
        HttpMethod::Put => "put",
        HttpMethod::Delete => "delete",
        _ => "get",
    }
}
