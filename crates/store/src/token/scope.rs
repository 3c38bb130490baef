//! What a token may do.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// One permission. A call asks for exactly one; writing does not imply reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read jobs, their gaps and their errors.
    BackfillRead,
    /// Start, work on and steer jobs.
    BackfillWrite,
    /// Read comments and the caller's own feedback.
    FeedbackRead,
    /// Read everyone's feedback: search it, review flags, export it. With it, `feedback:read` calls answer for others, too.
    FeedbackReadAll,
    /// Rate, comment, flag and withdraw.
    FeedbackWrite,
    /// Erase a person's feedback, live and archived.
    FeedbackErase,
    /// Read the feedback statistics of insights.
    StatsRead,
    /// Read metrics and their aggregates.
    MetricsRead,
    /// Report metrics.
    MetricsWrite,
    /// Read, verify and export the audit log.
    AuditRead,
    /// Read alerts, and what their receivers were told.
    AlertsRead,
    /// Take an alert, which ends its repeats.
    AlertsAcknowledge,
    /// Read what retention did and would do, its archives and its holds.
    RetentionRead,
    /// Run the retention policies.
    RetentionRun,
    /// Place and release legal holds.
    RetentionHold,
    /// Read what was backed up, read back and proved.
    BackupsRead,
    /// Run due scheduled tasks, or one on demand.
    ScheduleRun,
    /// Read the connection pool's figures.
    PoolRead,
    /// Read how the criteria stand.
    SloRead,
    /// Everything except [`Scope::ActAs`].
    Admin,
    /// Name the user for whom a call is made, in the header `X-User-Id`. Not part of `admin`: it speaks with other
    /// people's voices, and is given on purpose only.
    ActAs,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 21] = [
        Self::BackfillRead,
        Self::BackfillWrite,
        Self::FeedbackRead,
        Self::FeedbackReadAll,
        Self::FeedbackWrite,
        Self::FeedbackErase,
        Self::StatsRead,
        Self::MetricsRead,
        Self::MetricsWrite,
        Self::AuditRead,
        Self::AlertsRead,
        Self::AlertsAcknowledge,
        Self::RetentionRead,
        Self::RetentionRun,
        Self::RetentionHold,
        Self::BackupsRead,
        Self::ScheduleRun,
        Self::PoolRead,
        Self::SloRead,
        Self::Admin,
        Self::ActAs,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackfillRead => "backfill:read",
            Self::BackfillWrite => "backfill:write",
            Self::FeedbackRead => "feedback:read",
            Self::FeedbackReadAll => "feedback:read_all",
            Self::FeedbackWrite => "feedback:write",
            Self::FeedbackErase => "feedback:erase",
            Self::StatsRead => "stats:read",
            Self::MetricsRead => "metrics:read",
            Self::MetricsWrite => "metrics:write",
            Self::AuditRead => "audit:read",
            Self::AlertsRead => "alerts:read",
            Self::AlertsAcknowledge => "alerts:acknowledge",
            Self::RetentionRead => "retention:read",
            Self::RetentionRun => "retention:run",
            Self::RetentionHold => "retention:hold",
            Self::BackupsRead => "backups:read",
            Self::ScheduleRun => "schedule:run",
            Self::PoolRead => "pool:read",
            Self::SloRead => "slo:read",
            Self::Admin => "admin",
            Self::ActAs => "act_as",
        }
    }

    /// The scopes of a list like `backfill:read,stats:read`; `all` means every one.
    pub fn parse_list(text: &str) -> Result<BTreeSet<Self>> {
        let mut scopes = BTreeSet::new();
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            match name {
                "all" => scopes.extend(Self::ALL),
                name => {
                    scopes.insert(name.parse()?);
                }
            }
        }
        Ok(scopes)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<&str> = Self::ALL.iter().map(|scope| scope.as_str()).collect();
                Error::field(
                    "scopes",
                    format!("not a scope: use all, or some of {}", known.join(", ")),
                )
            })
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Whether a set of scopes gives the permission.
pub(super) fn permits(scopes: &BTreeSet<Scope>, wanted: Scope) -> bool {
    scopes.contains(&wanted) || (wanted != Scope::ActAs && scopes.contains(&Scope::Admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_is_read_back_from_its_name() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
        assert!("root".parse::<Scope>().is_err());
        assert!("Admin".parse::<Scope>().is_err());
    }

    #[test]
    fn all_means_every_scope_and_lists_are_sets() {
        assert_eq!(Scope::parse_list("all").unwrap().len(), Scope::ALL.len());
        let some = Scope::parse_list("stats:read, backfill:read,stats:read,").unwrap();
        assert_eq!(
            some,
            BTreeSet::from([Scope::BackfillRead, Scope::StatsRead])
        );
        assert!(Scope::parse_list("stats:read,nonsense").is_err());
        assert!(Scope::parse_list("").unwrap().is_empty());
    }

    #[test]
    fn admin_gives_everything_but_speaking_for_others() {
        let admin = BTreeSet::from([Scope::Admin]);
        for scope in Scope::ALL {
            assert_eq!(permits(&admin, scope), scope != Scope::ActAs, "{scope}");
        }
        let writer = BTreeSet::from([Scope::BackfillWrite]);
        assert!(permits(&writer, Scope::BackfillWrite));
        assert!(!permits(&writer, Scope::BackfillRead));
        assert!(!permits(&BTreeSet::from([Scope::ActAs]), Scope::Admin));
    }
}
