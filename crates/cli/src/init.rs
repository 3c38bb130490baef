//! `utxoiq-store init`: makes the database roles, or prints the SQL for a DBA to read and run.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use utxoiq_store::{config::DatabaseUrl, db::roles};

use crate::Context;
use crate::output::{self, note, out, outln};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the SQL and change nothing; run it with psql in the same database
    #[arg(long)]
    print: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    let url = context.config.database.admin_url()?;
    if args.print && args.json {
        output::json(&json!({ "sql": roles::sql(&database_of(url)?) }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.print {
        out!("{}", roles::sql(&database_of(url)?));
        return Ok(ExitCode::SUCCESS);
    }
    roles::init(url).await?;
    if args.json {
        let made = [roles::OWNER, roles::AUDIT].into_iter().chain(roles::LOGIN);
        output::json(&json!({ "roles": made.collect::<Vec<_>>() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    outln!(
        "the roles are there: {}, {}, {}",
        roles::OWNER,
        roles::AUDIT,
        roles::LOGIN.join(", ")
    );
    outln!(
        "next: give those that log in a password (psql: \\password {}), then `utxoiq-store migrate up`",
        roles::APP
    );
    let drill = context.config.database.drill_url.as_ref();
    if let Some(drill) = drill
        && are_one_place(url, drill.expose())?
    {
        note(
            "warning: database.drill_url names this database, to which utxoiq_drill may not connect any more: let it name another one of \
             the server, as postgres; proofs make databases of their own",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether two addresses name the same database, as far as their words tell.
fn are_one_place(admin: &str, drill: &str) -> anyhow::Result<bool> {
    let admin = DatabaseUrl::parse(admin, "database.admin_url")?;
    let drill = DatabaseUrl::parse(drill, "database.drill_url")?;
    Ok(admin.place() == drill.place())
}

/// The database that a connection string names; without one, PostgreSQL takes the user's name.
fn database_of(url: &str) -> anyhow::Result<String> {
    let url = DatabaseUrl::parse(url, "database.admin_url")?;
    let config = url.config();
    config
        .get_dbname()
        .or(config.get_user())
        .map(str::to_owned)
        .context("database.admin_url names no database")
}
