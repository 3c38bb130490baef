//! One error for the whole library.
//!
//! An [`Error`] has a [`Kind`], which decides how a caller reacts (and which HTTP status the service answers), a
//! stable `code` for programs, and a message for people that says what to do next. Messages never hold secrets,
//! SQL or addresses; those stay in the source chain, which only logs print.

use std::{borrow::Cow, error::Error as StdError, fmt};

use tokio_postgres::error::SqlState;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The thing named does not exist.
    NotFound,
    /// The request is well formed but the present state forbids it: a stale writer, an overlapping job.
    Conflict,
    /// The request breaks a rule; sending it again unchanged will fail again.
    Invalid,
    /// A part we depend on does not answer now; sending the request again later may succeed.
    Unavailable,
    /// A fault of ours.
    Internal,
}

/// One rejected field of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name on the wire; nested ones are joined with dots, list positions are numbers.
    pub field: String,
    /// What is wrong with it and what would be right, in lower case.
    pub message: String,
}

impl FieldError {
    /// A rejected field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// The library's error.
pub struct Error {
    kind: Kind,
    code: &'static str,
    message: Cow<'static, str>,
    fields: Vec<FieldError>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with its stable code and its message for people.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            fields: Vec::new(),
            source: None,
        }
    }

    /// The thing named does not exist.
    pub fn not_found(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotFound, code, message)
    }

    /// The present state forbids it.
    pub fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }

    /// The request breaks a rule.
    pub fn invalid(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }

    /// One field is malformed or out of range.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError::new(field, message)])
    }

    /// Several fields are malformed or out of range.
    pub fn fields(fields: Vec<FieldError>) -> Self {
        let message = match fields.as_slice() {
            [one] if one.field.is_empty() => one.message.clone(),
            [one] => format!("{}: {}", one.field, one.message),
            many => {
                let names: Vec<&str> = many.iter().map(|field| field.field.as_str()).collect();
                format!("{} fields are not valid: {}", many.len(), names.join(", "))
            }
        };
        Self {
            fields,
            ..Self::new(Kind::Invalid, "invalid_input", message)
        }
    }

    /// A part we depend on does not answer.
    pub fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unavailable, code, message)
    }

    /// A fault of ours; the message is for the log, callers are told only that it happened.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, "internal", message)
    }

    /// The error of work that several callers waited for, for one of them.
    pub fn shared(error: std::sync::Arc<Self>) -> Self {
        Self {
            kind: error.kind,
            code: error.code,
            message: error.message.clone(),
            fields: error.fields.clone(),
            source: Some(Box::new(error)),
        }
    }

    /// The same error with its cause attached for the log.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The stable code for programs, in snake case.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Whether no connection to the database could be made: all that needs one will fail alike.
    pub fn is_without_database(&self) -> bool {
        matches!(
            self.code,
            "database_unavailable" | "database_tls_failed" | "database_password_unavailable"
        )
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The rejected fields; empty unless the input was malformed or out of range.
    pub fn field_errors(&self) -> &[FieldError] {
        &self.fields
    }

    /// The SQL state, where the database refused.
    pub fn sql_state(&self) -> Option<&SqlState> {
        self.database_error().and_then(tokio_postgres::Error::code)
    }

    /// The violated constraint's name, where one was.
    pub fn constraint(&self) -> Option<&str> {
        self.database_error()?.as_db_error()?.constraint()
    }

    /// What the database says of the values that it refused: for people who may see them.
    pub fn detail(&self) -> Option<&str> {
        self.database_error()?.as_db_error()?.detail()
    }

    fn database_error(&self) -> Option<&tokio_postgres::Error> {
        self.source.as_ref()?.downcast_ref()
    }

    /// The message followed by all causes: for logs only.
    pub fn report(&self) -> String {
        let mut text = format!("{} ({})", self.message, self.code);
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.report())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// What the database says, sorted by what a caller can do about it.
///
/// A lost connection, a server that starts or stops, an exhausted resource, a timeout and a deadlock pass; everything
/// else that was not turned into a domain error at the query is a fault of ours.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        const LATER: &str = "send the request again";
        let made = match error.code() {
            None => Self::unavailable(
                "database_unavailable",
                "the connection to the database was lost; whether a write took effect is not known: read it back, then send the request again",
            ),
            Some(&(SqlState::QUERY_CANCELED | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT)) => {
                Self::unavailable(
                    "database_timeout",
                    format!("the database took too long; {LATER} later"),
                )
            }
            Some(
                &(SqlState::LOCK_NOT_AVAILABLE
                | SqlState::T_R_DEADLOCK_DETECTED
                | SqlState::T_R_SERIALIZATION_FAILURE),
            ) => Self::unavailable(
                "database_busy",
                format!("another change is under way; {LATER}"),
            ),
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Self::unavailable(
                "database_read_only",
                "the database accepts no writes now; send the request again later",
            ),
            Some(
                &(SqlState::UNDEFINED_TABLE
                | SqlState::UNDEFINED_COLUMN
                | SqlState::UNDEFINED_FUNCTION),
            ) => Self::unavailable(
                "schema_mismatch",
                "the database's schema is not the one this program needs: run utxoiq-store migrate up",
            ),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::internal(
                "the database role may not do this: check that the address names the right role, and that utxoiq-store init was run on this database",
            ),
            Some(state)
                if ["08", "53", "57"].contains(&state.code().get(..2).unwrap_or_default()) =>
            {
                Self::unavailable(
                    "database_unavailable",
                    format!("the database is not available; {LATER} later"),
                )
            }
            Some(_) => Self::internal("the database refused a statement"),
        };
        made.with_source(error)
    }
}

/// An error with all that it is due to, in one line: for a log.
pub fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
