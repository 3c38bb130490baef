//! The database roles: two owners that nobody logs in as, and five that log in with no more than they need.
//!
//! The audit log has an owner of its own, so that not even the functions of the other owner, which may do anything to
//! all other tables, can write it: it is written through `audit_append` alone. Migrations become that owner by SET ROLE.
//!
//! # What it guarantees
//!
//! * [`init`] does exactly what [`sql`] says: a DBA can read it first, or run it instead.
//! * Running it again changes nothing; running it several times at once is safe, also in different databases of one
//!   server, where no advisory lock reaches: roles are cluster-wide, so two of them can collide on the same row of a
//!   catalogue. Everything is one transaction, and one that lost such a race is run again.
//! * It works for a superuser and for an administrator who is none (Cloud SQL's `postgres`): from PostgreSQL 16 on,
//!   whoever creates a role may administer it but not become it, so membership is granted in so many words.
//! * What it takes away it looks for afterwards, and fails where it is still there. [`open_doors`] tells the same of a database on which
//!   it was not run again.
//! * It sets no password: a login role cannot be used until an administrator has given it one.

use std::time::Duration;

use rand::RngExt as _;
use tokio_postgres::error::SqlState;

use super::Dedicated;
use crate::error::{Error, Kind, Result};

/// The role that owns every object but the audit log.
pub const OWNER: &str = "utxoiq_owner";
/// The role that owns the audit log.
pub const AUDIT: &str = "utxoiq_audit";
/// The role that migrates, as the owner.
pub const MIGRATOR: &str = "utxoiq_migrator";
/// The role that serves.
pub const APP: &str = "utxoiq_app";
/// The role that archives and deletes.
pub const RETENTION: &str = "utxoiq_retention";
/// The role that backs up.
pub const BACKUP: &str = "utxoiq_backup";
/// The role that restores into scratch databases.
pub const DRILL: &str = "utxoiq_drill";
/// The roles that log in.
pub const LOGIN: [&str; 5] = [MIGRATOR, APP, RETENTION, BACKUP, DRILL];

/// How often a transaction that lost a race for a role is run.
const ATTEMPTS: u32 = 50;

/// The SQL that makes the roles and their rights on `database`; run it in that database.
pub fn sql(database: &str) -> String {
    let quoted = format!("'{}'", database.replace('\'', "''"));
    include_str!("roles/roles.sql").replace("{database}", &quoted)
}

/// The part of [`sql`] that is about one database, in which it is to be run: by its owner, where the roles are there already.
pub fn sql_of_database() -> &'static str {
    let script = include_str!("roles/roles.sql");
    let from = script.find("do $grants$").unwrap_or_default();
    script[from..].trim_end().trim_end_matches("commit;")
}

/// Makes the roles, and their rights on the database that `admin_url` names.
pub async fn init(admin_url: &str) -> Result<()> {
    let connection = Dedicated::open(admin_url, "utxoiq-store init").await?;
    let outcome = apply(&connection).await;
    connection.close().await;
    outcome
}

/// Whether everybody, and whether the drill's role, may come into the database. Into a database of its own the latter may.
const OPEN_DOORS: &str = "
    select exists (select from aclexplode(coalesce(datacl, acldefault('d', datdba))) where grantee = 0) as everybody,
           coalesce((select drill.oid <> datdba and has_database_privilege(drill.oid, d.oid, 'connect')
                     from pg_roles drill where rolname = 'utxoiq_drill'), false) as drill
    from pg_database d where datname = current_database()";

/// What [`init`] would take away from the database that `url` names, each as a sentence: rights that PostgreSQL gives to everybody, and
/// the way in for the role that may do there what both owners may. A database of an earlier release has both.
pub async fn open_doors(url: &str) -> Result<Vec<&'static str>> {
    let connection = Dedicated::open(url, "utxoiq-store roles").await?;
    let found = connection.query_one(OPEN_DOORS, &[]).await;
    connection.close().await;
    let row = found?;
    let (everybody, drill): (bool, bool) = (row.try_get("everybody")?, row.try_get("drill")?);
    let doors = [
        (everybody, "everybody (PUBLIC) has rights on this database"),
        (
            drill,
            "utxoiq_drill may connect to this database, and has the rights of its owners",
        ),
    ];
    Ok(doors
        .into_iter()
        .filter_map(|(is_open, what)| is_open.then_some(what))
        .collect())
}

async fn apply(connection: &Dedicated) -> Result<()> {
    let database: String = connection
        .query_one("select current_database()::text", &[])
        .await?
        .get(0);
    let script = sql(&database);
    let mut attempt = 1;
    loop {
        let Err(error) = connection.batch_execute(&script).await else {
            return Ok(());
        };
        connection.batch_execute("rollback").await?;
        if attempt == ATTEMPTS || !lost_a_race(&error) {
            return Err(refused(error));
        }
        attempt += 1;
        let pause = rand::rng().random_range(10..100);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Whether another session changed the same role, membership or grant at the same time.
fn lost_a_race(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &(SqlState::UNIQUE_VIOLATION
            | SqlState::DUPLICATE_OBJECT
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE
            // 'tuple concurrently updated' has no state of its own.
            | SqlState::INTERNAL_ERROR)
        )
    )
}

fn refused(error: tokio_postgres::Error) -> Error {
    let Some(database) = error.as_db_error() else {
        return error.into();
    };
    let hint = database
        .hint()
        .map_or_else(String::new, |hint| format!("; {hint}"));
    let message = format!(
        "the roles could not be made: {}{hint}; `utxoiq-store init --print` shows the SQL for an administrator to run",
        database.message()
    );
    Error::new(Kind::Conflict, "init_refused", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sql_names_its_database_and_sets_no_password() {
        let sql = sql("o'brien");
        assert!(sql.contains("current_database() <> 'o''brien'"));
        assert!(!sql.contains("{database}"));
        assert!(!sql.to_lowercase().contains("password '"));
    }

    #[test]
    fn the_part_about_one_database_is_one_statement() {
        let sql = sql_of_database().trim();
        assert!(sql.starts_with("do $grants$\n") && sql.ends_with("\n$grants$;"));
        assert_eq!(sql.matches("$grants$").count(), 2);
    }
}
