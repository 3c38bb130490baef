//! Attempts at what cannot be undone, by tokens that may not: into the audit log (C7.5).
//!
//! A token's attempts at one kind of call make one entry a minute: a client that tries again and again must not fill the log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::{
    Error, Store,
    audit::Action,
    token::{Caller, Scope},
};

/// How long further attempts are not told.
const QUIET: TimeDelta = TimeDelta::minutes(1);

/// The most callers and scopes that are remembered.
const MOST: usize = 10_000;

/// Which callers have tried what lately.
#[derive(Debug, Default)]
pub struct Denials(Mutex<HashMap<(String, Scope), DateTime<Utc>>>);

/// What a scope is for, where trying without it is to be known.
fn attempted(scope: Scope) -> Option<Action> {
    match scope {
        Scope::RetentionRun => Some(Action::RunBegin),
        Scope::RetentionHold => Some(Action::HoldAdd),
        Scope::FeedbackErase => Some(Action::Erase),
        _ => None,
    }
}

impl Denials {
    /// Notes that a caller lacked a scope, if that is to be noted.
    pub async fn note(&self, store: &Store, caller: &Caller, scope: Scope, now: DateTime<Utc>) {
        let Some(action) = attempted(scope) else {
            return;
        };
        if !self.is_new((caller.key(), scope), now) {
            return;
        }
        let refusal = Error::conflict(
            "missing_scope",
            format!("the token lacks the scope {}", scope.as_str()),
        );
        // An attempt is told in any case: where nobody can be named, without a name.
        let actor =
            crate::api::retention::actor(store, caller).unwrap_or_else(|_| "user".to_owned());
        let noted = store
            .audit()
            .denied(now, &actor, action, "retention", &refusal)
            .await;
        if let Err(error) = noted {
            tracing::error!(error = %error.report(), actor, "an attempt that was refused is not in the audit log");
        }
    }

    fn is_new(&self, attempt: (String, Scope), now: DateTime<Utc>) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, at| now - *at < QUIET);
        if seen.len() >= MOST || seen.contains_key(&attempt) {
            return false;
        }
        seen.insert(attempt, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_new_once_a_minute() {
        let denials = Denials::default();
        let now = DateTime::UNIX_EPOCH;
        let (one, other) = ("one", "other");
        let mut told = Vec::new();
        for (token, seconds) in [
            (one, 0),
            (one, 1),
            (other, 2),
            (one, 59),
            (one, 60),
            (other, 61),
        ] {
            told.push(denials.is_new(
                (token.to_owned(), Scope::RetentionRun),
                now + TimeDelta::seconds(seconds),
            ));
        }
        assert_eq!(told, [true, false, true, false, true, false]);
    }
}
