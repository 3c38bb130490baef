//! The one table of calls: path, scope, documentation and handler stand together.
//!
//! A slice declares its calls in its `routes()`. From that one declaration come the router, the check of the caller's
//! scope and the OpenAPI document, so that a call without a scope, or one that is missing in the document, cannot be
//! written. What every call can answer (401, 403, 422, 429, 503 …) is added by what it takes, not by hand.

mod operation;

use std::collections::BTreeMap;

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        self, Content, HttpMethod, Ref, RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type},
    },
};
use utxoiq_store::token::Scope;

use crate::{AppState, observe::Gated, version};

/// The names of the security schemes in the document: either is enough.
pub(crate) const SECURITY_SCHEMES: [&str; 2] = ["token", "user"];

const JSON: &str = "application/json";

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone: liveness, readiness and the OpenAPI document; a test holds the list.
    Open,
    /// Everyone with a valid token, whatever its scopes: what tells callers about themselves.
    Authenticated,
    /// Callers whose token has the scope.
    Needs(Scope),
    /// A page of the dashboard, or what is done on one: who is logged in ([`crate::dashboard::session`]) with a token that has the
    /// scope, or, without one, with any valid token. Others are sent to the log-in, and refusals are pages.
    Page(Option<Scope>),
    /// What a page of the dashboard loads by itself: as [`Page`](Self::Page), but others get 401.
    Fragment(Option<Scope>),
}

/// A named schema of the document.
pub(crate) type NamedSchema = (String, RefOr<Schema>);

/// The answer of a call.
struct Answer {
    status: &'static str,
    /// Each content type that it may have.
    contents: Vec<(String, Content)>,
    description: &'static str,
    /// Headers beyond those that every answer has, with what they say.
    headers: Vec<(&'static str, &'static str)>,
}

impl Answer {
    fn new(content_type: &str, content: Content, description: &'static str) -> Self {
        Self {
            status: "200",
            contents: vec![(content_type.to_owned(), content)],
            description,
            headers: Vec::new(),
        }
    }
}

/// The declaration of one call.
pub struct Call {
    method: HttpMethod,
    filter: MethodFilter,
    path: &'static str,
    access: Access,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Parameter>,
    /// Each content type that the body may have.
    bodies: Vec<(&'static str, RefOr<Schema>)>,
    body_is_required: bool,
    answer: Option<Answer>,
    refusals: BTreeMap<u16, Vec<String>>,
    schemas: Vec<NamedSchema>,
}

impl Call {
    /// A call that reads.
    pub fn get(path: &'static str, scope: Scope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Get, path, Access::Needs(scope), summary)
    }

    /// A call that does something.
    pub fn post(path: &'static str, scope: Scope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Post, path, Access::Needs(scope), summary)
    }

    /// A call that puts something into a state.
    pub fn put(path: &'static str, scope: Scope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Put, path, Access::Needs(scope), summary)
    }

    /// A call that takes something away.
    pub fn delete(path: &'static str, scope: Scope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Delete, path, Access::Needs(scope), summary)
    }

    /// A call that reads and that everyone may make; see [`Access::Open`].
    pub fn open(path: &'static str, summary: &'static str) -> Self {
        Self::new(HttpMethod::Get, path, Access::Open, summary)
    }

    /// A call that reads and that everyone with a valid token may make; see [`Access::Authenticated`].
    pub fn get_as_anyone(path: &'static str, summary: &'static str) -> Self {
        Self::new(HttpMethod::Get, path, Access::Authenticated, summary)
    }

    /// As [`open`](Self::open), for a call that does something. The service has none; its tests do.
    pub fn open_post(path: &'static str, summary: &'static str) -> Self {
        Self::new(HttpMethod::Post, path, Access::Open, summary)
    }

    /// A page of the dashboard; see [`Access::Page`].
    pub fn shown(path: &'static str, scope: Option<Scope>, summary: &'static str) -> Self {
        Self::new(HttpMethod::Get, path, Access::Page(scope), summary)
    }

    /// What is done on a page of the dashboard.
    pub fn done(path: &'static str, scope: Option<Scope>, summary: &'static str) -> Self {
        Self::new(HttpMethod::Post, path, Access::Page(scope), summary)
    }

    /// What a page of the dashboard loads by itself; see [`Access::Fragment`].
    pub fn live(path: &'static str, scope: Option<Scope>, summary: &'static str) -> Self {
        Self::new(HttpMethod::Get, path, Access::Fragment(scope), summary)
    }

    fn new(method: HttpMethod, path: &'static str, access: Access, summary: &'static str) -> Self {
        let filter = match method {
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Put => MethodFilter::PUT,
            HttpMethod::Delete => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let call = Self {
            method,
            filter,
            path,
            access,
            summary,
            description: "",
            parameters: Vec::new(),
            bodies: Vec::new(),
            body_is_required: false,
            answer: None,
            refusals: BTreeMap::new(),
            schemas: Vec::new(),
        };
        let call = call.refuses(500, "internal", "the service failed");
        let call = match access {
            // Pages are not in the document, which is of calls.
            Access::Open | Access::Page(_) | Access::Fragment(_) => return call,
            Access::Authenticated => call,
            Access::Needs(scope) => call.refuses(
                403,
                "missing_scope",
                &format!("the token lacks the scope `{scope}`"),
            ),
        };
        call.refuses(401, "unauthorized", "no valid token was sent")
            .refuses(
                429,
                "rate_limited",
                "the caller's limit of requests is used up; see `Retry-After`",
            )
            .refuses(
                429,
                "too_many_failed_logins",
                "too many requests with tokens that are not valid came from the client's address",
            )
            .refuses(
                503,
                "unavailable",
                "what the call needs is away or overloaded; see `Retry-After`",
            )
            .refuses(
                503,
                "identity_provider_unavailable",
                "whether an end user's token is valid cannot be told now",
            )
    }

    /// What there is to know about the call, in Markdown.
    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The parameters in the path.
    pub fn path_fields<P: IntoParams>(self) -> Self {
        self.parameters::<P>(&ParameterIn::Path)
    }

    /// The parameters in the query.
    pub fn query<P: IntoParams>(self) -> Self {
        self.parameters::<P>(&ParameterIn::Query)
    }

    fn parameters<P: IntoParams>(mut self, place: &ParameterIn) -> Self {
        let declared = P::into_params(|| Some(place.clone())).into_iter();
        self.parameters.extend(declared.map(never_null));
        self.refuses_parameters()
    }

    fn refuses_parameters(self) -> Self {
        self.refuses(
            422,
            "invalid_input",
            "a parameter is malformed or out of range; `errors` names each",
        )
    }

    /// The call acts for a user: the token's own, or the one in `X-User-Id`.
    pub fn for_user(self) -> Self {
        let text = ObjectBuilder::new().schema_type(Type::String);
        self.header(
            "X-User-Id",
            "The user for whom the call is made, at most 100 characters; needs the scope `act_as`. Without it: the token's own user.",
            text.min_length(Some(1)).max_length(Some(100)),
        )
    }

    /// The call shows what a write did: the one whose answer had this version; see [`crate::version`].
    pub fn after_version(self) -> Self {
        let digits = ObjectBuilder::new().schema_type(Type::String);
        self.header(
            version::NAME,
            "The `Store-Version` of a write's answer: this answer shows that write, whatever is cached.",
            digits.pattern(Some("^[0-9]{1,19}$")),
        )
    }

    /// The call answers a page of a list: `limit`, and where the page begins.
    pub fn page(mut self, default_limit: i64) -> Self {
        let number = || ObjectBuilder::new().schema_type(Type::Integer);
        let limit = number()
            .minimum(Some(1))
            .maximum(Some(100))
            .default(Some(default_limit.into()));
        let offset = number().minimum(Some(0)).default(Some(0.into()));
        let cursor = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(600));
        for (name, description, schema) in [
            ("limit", "How many at most.", limit),
            ("offset", "How many to skip; not beside `cursor`.", offset),
            (
                "cursor",
                "The `next_cursor` of the page before, with the same conditions: what is written meanwhile shifts nothing.",
                cursor,
            ),
        ] {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(schema));
            self.parameters.push(parameter.build());
        }
        self.refuses_parameters()
    }

    /// A header that the call reads.
    pub fn header(
        mut self,
        name: &'static str,
        description: &'static str,
        schema: ObjectBuilder,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema))
            .build();
        self.parameters.push(parameter);
        self.refuses_parameters()
    }

    /// The JSON body.
    pub fn body<B: ToSchema>(mut self) -> Self {
        self.bodies = vec![(JSON, self.reference::<B>())];
        self.body_is_required = true;
        self.refuses_bodies()
    }

    /// The JSON body, which may be missing.
    pub fn optional_body<B: ToSchema>(mut self) -> Self {
        self.bodies = vec![(JSON, self.reference::<B>())];
        self.refuses_bodies()
    }

    /// The JSON body, an array.
    pub fn body_list<B: ToSchema>(mut self) -> Self {
        self.bodies = vec![(JSON, self.list::<B>())];
        self.body_is_required = true;
        self.refuses_bodies()
    }

    /// The body: a document of one of these types, which the call's description explains.
    pub fn body_document(mut self, content_types: &[&'static str]) -> Self {
        let bodies = content_types
            .iter()
            .map(|content_type| (*content_type, document_schema(content_type).into()));
        self.bodies = bodies.collect();
        self.body_is_required = true;
        self.refuses_slow_bodies()
            .refuses(
                413,
                "too_large",
                "the body is too large, as it is sent or decompressed",
            )
            .refuses(
                415,
                "unsupported_media_type",
                "the body is of another type, or compressed in another way",
            )
    }

    fn refuses_slow_bodies(self) -> Self {
        self.refuses(
            408,
            "body_timeout",
            "the body was not there within `server.body_timeout_seconds`",
        )
    }

    fn refuses_bodies(self) -> Self {
        self.refuses_slow_bodies()
            .refuses(413, "too_large", "the body is too large")
            .refuses(415, "unsupported_media_type", "the body is not JSON")
            .refuses(422, "malformed_json", "the body is not readable JSON")
            .refuses(
                422,
                "invalid_input",
                "a field is malformed or out of range; `errors` names each",
            )
    }

    /// The answer, with status 200: a JSON object.
    pub fn answers<A: ToSchema>(mut self, description: &'static str) -> Self {
        let content = Content::new(Some(self.reference::<A>()));
        self.answer = Some(Answer::new("application/json", content, description));
        self
    }

    /// The answer, with status 200: a JSON array.
    pub fn answers_list<A: ToSchema>(mut self, description: &'static str) -> Self {
        let content = Content::new(Some(self.list::<A>()));
        self.answer = Some(Answer::new("application/json", content, description));
        self
    }

    /// The answer, with status 200: a document of another type.
    pub fn answers_document(mut self, content_type: &str, description: &'static str) -> Self {
        let content = Content::new(Some(document_schema(content_type)));
        self.answer = Some(Answer::new(content_type, content, description));
        self
    }

    /// The document may be of this type, too.
    pub fn or_document(mut self, content_type: &str) -> Self {
        let schema = document_schema(content_type);
        if let Some(answer) = &mut self.answer {
            let content = Content::new(Some(schema));
            answer.contents.push((content_type.to_owned(), content));
        }
        self
    }

    /// A header of the answer, which is declared before it.
    pub fn with_header(mut self, name: &'static str, description: &'static str) -> Self {
        if let Some(answer) = &mut self.answer {
            answer.headers.push((name, description));
        }
        self
    }

    /// The answer to a write says which version of the store it made; see [`crate::version`].
    pub fn tells_version(self) -> Self {
        self.with_header(
            version::NAME,
            "The version that this write made. A read that sends it back shows the write.",
        )
    }

    /// A refusal beyond those that follow from what the call takes.
    pub fn refuses(mut self, status: u16, code: &str, when: &str) -> Self {
        let line = format!("`{code}`: {when}");
        let lines = self.refusals.entry(status).or_default();
        if !lines.contains(&line) {
            lines.push(line);
        }
        self
    }

    /// The answer of a call that has nothing to say: status 204.
    pub fn answers_nothing(mut self, description: &'static str) -> Self {
        self.answer = Some(Answer {
            status: "204",
            contents: Vec::new(),
            description,
            headers: Vec::new(),
        });
        self
    }

    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into_owned(), T::schema()));
        Ref::from_schema_name(T::name()).into()
    }

    fn list<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let items = self.reference::<T>();
        ArrayBuilder::new().items(items).build().into()
    }
}

/// What a document of a type is, as far as a schema can tell.
fn document_schema(content_type: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(match content_type {
        JSON => Type::Object,
        _ => Type::String,
    })
}

/// A parameter's own schema. It may be left out, but the text `null` is a text: a schema that is made of an `Option` says
/// otherwise.
fn never_null(mut parameter: Parameter) -> Parameter {
    let is_null = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
    match &mut parameter.schema {
        Some(RefOr::T(Schema::Object(object))) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|one| *one != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
        }
        Some(RefOr::T(Schema::OneOf(one_of))) => {
            one_of.items.retain(|item| !is_null(item));
            if let [RefOr::T(Schema::Object(only))] = one_of.items.as_slice() {
                let mut only = only.clone();
                only.default = only.default.or_else(|| one_of.default.clone());
                parameter.schema = Some(only.into());
            }
        }
        // The default of a schema that is written out stands beside it, as one of no properties.
        Some(RefOr::T(Schema::AllOf(all_of))) => {
            if let [
                RefOr::T(Schema::Object(only)),
                RefOr::T(Schema::Object(beside)),
            ] = all_of.items.as_slice()
                && beside.properties.is_empty()
            {
                let mut only = only.clone();
                only.default = only.default.or_else(|| beside.default.clone());
                parameter.schema = Some(only.into());
            }
        }
        _ => {}
    }
    parameter
}

fn http_method(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        _ => Method::GET,
    }
}

/// The calls of one slice.
pub struct Routes {
    tag: &'static str,
    about: &'static str,
    calls: Vec<(Call, Mount)>,
}

/// Puts a call's handler behind its gate.
type Mount = Box<dyn FnOnce(&AppState) -> MethodRouter<AppState> + Send>;

impl Routes {
    /// No calls yet, under a heading of the document.
    pub fn new(tag: &'static str, about: &'static str) -> Self {
        Self {
            tag,
            about,
            calls: Vec::new(),
        }
    }

    /// Adds a call with its handler.
    pub fn add<H, T>(mut self, call: Call, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        let (filter, access, method) = (call.filter, call.access, http_method(&call.method));
        let mount = move |state: &AppState| on(filter, Gated::call(state, access, method, handler));
        self.calls.push((call, Box::new(mount)));
        self
    }

    /// Who may make which call, for tests: method, path, access.
    pub fn table(&self) -> impl Iterator<Item = (&'static str, &'static str, Access)> {
        self.calls
            .iter()
            .map(|(call, _)| (operation::method_name(&call.method), call.path, call.access))
    }

    /// Mounts the calls, each behind its gate.
    pub(crate) fn mount(self, router: Router<AppState>, state: &AppState) -> Router<AppState> {
        self.calls
            .into_iter()
            .fold(router, |router, (call, mount)| {
                router.route(call.path, mount(state))
            })
    }

    /// Adds the calls to the document.
    pub(crate) fn describe(&self, document: &mut openapi::OpenApi, schemas: &mut Vec<NamedSchema>) {
        let tag = openapi::tag::TagBuilder::new()
            .name(self.tag)
            .description(Some(self.about));
        document.tags.get_or_insert_default().push(tag.build());
        for (call, _) in &self.calls {
            let operation = call.operation(self.tag);
            document
                .paths
                .add_path_operation(call.path, vec![call.method.clone()], operation);
            schemas.extend(call.schemas.iter().cloned());
        }
    }
}
