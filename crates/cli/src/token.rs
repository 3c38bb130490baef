//! `utxoiq-store token`: service tokens, made, rotated and revoked over the administrator's connection.

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    config::{DatabaseSettings, Secret},
    db::Pool,
    token::{NewToken, Scope, Token, Tokens},
};

use crate::Context;
use crate::operator::operator;
use crate::output::{self, note, outln, plain};
use crate::table::{Side, table};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a token and print it, alone, on standard output: it is shown this once
    Create(Create),
    /// List all tokens, without their secrets
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace a token's secret and print the new text, alone, on standard output: it is shown this once
    Rotate(Rotate),
    /// Revoke a token; services notice within server.token_cache_milliseconds
    Revoke {
        /// Its name or its id
        #[arg(value_name = "NAME|ID")]
        name_or_id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// What to call it; unique among tokens that are not revoked
    #[arg(long)]
    name: String,
    /// What it may do: all, or a list such as backfill:read,backfill:write
    #[arg(long)]
    scopes: String,
    /// The user id under which its owner acts for itself; the name where it is not given
    #[arg(long)]
    subject: Option<String>,
    /// After how many days it stops working; never where it is not given
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in_days: Option<u32>,
    /// The tier of its rate limit, as the configuration names them; that of service tokens where it is not given
    #[arg(long)]
    tier: Option<String>,
    /// As JSON: the token, and what is known of it
    #[arg(long)]
    json: bool,
}

/// Arguments of `rotate`.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// Its name or its id
    #[arg(value_name = "NAME|ID")]
    name_or_id: String,
    /// For how many hours the secret that it had works beside the new one; 0 ends it at once
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=2_160))]
    overlap_hours: u32,
    /// Also while the secret before the present one still works: that one ends at once
    #[arg(long)]
    force: bool,
    /// As JSON: the new text, and what is known of the token
    #[arg(long)]
    json: bool,
}

pub async fn run(command: Command, context: Context) -> anyhow::Result<ExitCode> {
    let pool = Pool::open(&administrative(&context.config.database)?)?;
    let tokens = Tokens::new(&pool);
    let now = SystemClock.now();
    match command {
        Command::Create(args) => create(tokens, args, now).await?,
        Command::List { json } => list(tokens, json, now).await?,
        Command::Rotate(args) => rotate(tokens, args, now).await?,
        Command::Revoke { name_or_id, json } => {
            let token = tokens.revoke(&name_or_id, now).await?;
            if json {
                output::json(&token)?;
            }
            note(format!("token {} ({}) is revoked", token.name, token.id));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A pool of one connection with the administrator's rights: a command asks one question and ends.
pub fn administrative(settings: &DatabaseSettings) -> anyhow::Result<DatabaseSettings> {
    Ok(DatabaseSettings {
        url: Some(Secret::new(settings.admin_url()?)),
        pool_min: 1,
        pool_max: 1,
        ..settings.clone()
    })
}

async fn create(tokens: Tokens<'_>, args: Create, now: DateTime<Utc>) -> anyhow::Result<()> {
    let expires_at = args
        .expires_in_days
        .map(|days| {
            now.checked_add_signed(TimeDelta::days(i64::from(days)))
                .context("that is too far away")
        })
        .transpose()?;
    let new = NewToken {
        name: args.name,
        subject: args.subject,
        scopes: Scope::parse_list(&args.scopes)?,
        rate_tier: args.tier,
        expires_at,
        created_by: operator(),
    };
    let (token, secret) = tokens.create(new, now).await?;
    let end = token.expires_at.map_or_else(
        || "does not expire".to_owned(),
        |end| format!("works until {}", short(end)),
    );
    note(format!(
        "token {} ({}) {end}; it is shown this once:",
        token.name, token.id
    ));
    if let Err(error) = shown(&token, &secret, args.json) {
        // Nobody has it, and nobody ever will: it must not go on working.
        tokens.revoke(&token.id.to_string(), now).await?;
        note("the token could not be shown, and is revoked");
        return Err(error);
    }
    Ok(())
}

/// Prints a token's text, alone; as JSON with what is known of it.
fn shown(token: &Token, secret: &Secret, json: bool) -> anyhow::Result<()> {
    if !json {
        output::write(format_args!("{}\n", secret.expose()))?;
        return Ok(());
    }
    let mut told = serde_json::to_value(token)?;
    told["token"] = secret.expose().into();
    output::json(&told)
}

async fn rotate(tokens: Tokens<'_>, args: Rotate, now: DateTime<Utc>) -> anyhow::Result<()> {
    let overlap = TimeDelta::hours(i64::from(args.overlap_hours));
    let rotated = tokens.rotate(&args.name_or_id, overlap, args.force, now);
    let (token, secret) = rotated.await?;
    let previous = match token.previous_until {
        Some(until) if until > now => format!("the one that it had works until {}", short(until)),
        _ => "the one that it had is refused from now on".to_owned(),
    };
    note(format!(
        "token {} ({}) has a new secret, and {previous}; the new text is shown this once:",
        token.name, token.id
    ));
    if let Err(error) = shown(&token, &secret, args.json) {
        note("the new text could not be shown: rotate again with --force");
        return Err(error);
    }
    Ok(())
}

async fn list(tokens: Tokens<'_>, json: bool, now: DateTime<Utc>) -> anyhow::Result<()> {
    let tokens = tokens.list().await?;
    if json {
        outln!("{}", serde_json::to_string_pretty(&tokens)?);
        return Ok(());
    }
    if tokens.is_empty() {
        note("there are no tokens; `token create` makes one");
    }
    let rows: Vec<[String; 7]> = tokens.iter().map(|token| row(token, now)).collect();
    if !rows.is_empty() {
        let columns = [
            "ID",
            "NAME",
            "STATE",
            "SUBJECT",
            "TIER",
            "USED (UTC)",
            "SCOPES",
        ];
        let text = table(columns.map(|name| (name, Side::Left)), &rows);
        output::write(format_args!("{text}"))?;
    }
    Ok(())
}

fn row(token: &Token, now: DateTime<Utc>) -> [String; 7] {
    let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
    [
        token.id.to_string(),
        plain(&token.name),
        state(token, now),
        plain(&token.subject),
        token.rate_tier.as_deref().unwrap_or("default").to_owned(),
        used(token.last_used_at),
        format!("{}{}", scopes.join(","), previous(token, now)),
    ]
}

fn used(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "never".to_owned(), short)
}

/// What there is to know of a replaced secret while it works: whether somebody still has to move to the new one.
fn previous(token: &Token, now: DateTime<Utc>) -> String {
    match token.previous_until {
        Some(until) if until > now && token.is_live(now) => format!(
            "  old secret works until {}, last used {}",
            short(until),
            used(token.previous_used_at)
        ),
        _ => String::new(),
    }
}

fn state(token: &Token, now: DateTime<Utc>) -> String {
    match (token.revoked_at, token.expires_at) {
        (Some(revoked_at), _) => format!("revoked {}", short(revoked_at)),
        (None, Some(expires_at)) if expires_at <= now => format!("expired {}", short(expires_at)),
        (None, Some(expires_at)) => format!("works until {}", short(expires_at)),
        (None, None) => "works".to_owned(),
    }
}

fn short(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%MZ").to_string()
}
