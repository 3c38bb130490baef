//! PostgreSQL: the five addresses, the rights, the schema, and how the server is set up.

use std::time::Instant;

use utxoiq_store::{
    config::{DatabaseUrl, Secret},
    db::{Dedicated, migrate::Migrator, roles},
};

use super::{Around, Finding, queries};

const TRANSPORT: &str = "docs/operations/transport.md";

/// An address: its setting, its role, and what cannot be done without it.
struct Address {
    setting: &'static str,
    role: &'static str,
    without: &'static str,
}

const ADDRESSES: [Address; 5] = [
    Address {
        setting: "database.url",
        role: roles::APP,
        without: "nothing can be served",
    },
    Address {
        setting: "database.admin_url",
        role: roles::MIGRATOR,
        without: "this machine cannot init, migrate, or make tokens",
    },
    Address {
        setting: "database.retention_url",
        role: roles::RETENTION,
        without: "this process cannot archive or delete",
    },
    Address {
        setting: "database.backup_url",
        role: roles::BACKUP,
        without: "this process can make no backup",
    },
    Address {
        setting: "database.drill_url",
        role: roles::DRILL,
        without: "this process can prove no backup",
    },
];

fn url_of(around: &Around, which: usize) -> Option<&Secret> {
    let database = &around.config.database;
    [
        &database.url,
        &database.admin_url,
        &database.retention_url,
        &database.backup_url,
        &database.drill_url,
    ][which]
        .as_ref()
}

/// Whether one gets in by an address, as whom, and how safely.
pub async fn address(around: &Around, which: usize) -> Vec<Finding> {
    let Address {
        setting,
        role,
        without,
    } = ADDRESSES[which];
    let Some(url) = url_of(around, which) else {
        return vec![if which == 0 {
            Finding::failed(
                setting,
                format!("it is not set: {without}"),
                "set DATABASE_URL; on a developer's machine `./dev up && source .local/env` does",
            )
        } else {
            Finding::skipped(setting, format!("it is not set: {without}"))
        }];
    };
    match session(url, role).await {
        Ok(session) => vec![session.judge(setting, role, url)],
        Err(error) => vec![Finding::failed(
            setting,
            error.report(),
            mend_of(&error.report(), role),
        )],
    }
}

fn mend_of(report: &str, role: &str) -> String {
    if report.contains("password") || report.contains("authentication") {
        format!(
            "set the password that the address has: `alter role {role} password '…'`, or correct the address"
        )
    } else if report.contains("does not exist") {
        "`utxoiq-store init` makes the roles; the database itself is made by an administrator"
            .to_owned()
    } else if report.contains("certificate") || report.contains("TLS") {
        format!("see {TRANSPORT}")
    } else {
        "start PostgreSQL, or correct the address; a firewall may be between".to_owned()
    }
}

struct Session {
    role: String,
    is_superuser: bool,
    has_role: bool,
    is_encrypted: bool,
    database: String,
}

async fn session(url: &Secret, role: &str) -> utxoiq_store::Result<Session> {
    let connection = Dedicated::open(url.expose(), "utxoiq-store doctor").await?;
    let row = connection.query_one(queries::SESSION, &[&role]).await?;
    let session = Session {
        role: row.try_get("role")?,
        is_superuser: row.try_get("is_superuser")?,
        has_role: row.try_get("has_role")?,
        is_encrypted: row.try_get("is_encrypted")?,
        database: row.try_get("database")?,
    };
    connection.close().await;
    Ok(session)
}

impl Session {
    fn judge(&self, setting: &'static str, expected: &str, url: &Secret) -> Finding {
        let Self { role, database, .. } = self;
        let is_admin = expected == roles::MIGRATOR;
        if self.is_superuser && !is_admin {
            return Finding::failed(
                setting,
                format!(
                    "it connects as {role}, a superuser, whom no right and no trigger holds up"
                ),
                format!("connect as {expected}: docs/operations/roles.md"),
            );
        }
        if !self.has_role && !self.is_superuser {
            return Finding::failed(
                setting,
                format!("it connects as {role}, which is not {expected} and no member of it"),
                format!(
                    "connect as {expected}, which `utxoiq-store init` makes: docs/operations/roles.md"
                ),
            );
        }
        let is_here =
            DatabaseUrl::parse(url.expose(), setting).is_ok_and(|url| url.stays_on_this_machine());
        if !self.is_encrypted && !is_here {
            return Finding::warning(
                setting,
                format!("it connects as {role} over a network without TLS"),
                format!("set database.tls to verify-full, and database.tls_ca_file: {TRANSPORT}"),
            );
        }
        let how = match (self.is_encrypted, is_here) {
            (true, _) => "over TLS",
            _ => "on this machine",
        };
        Finding::ok(
            setting,
            format!("it connects as {role} to {database}, {how}"),
        )
    }
}

/// The rights on the database that PostgreSQL gives to everybody.
pub async fn grants(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "database grants";
    let Some(url) = url_of(around, 1).or_else(|| url_of(around, 0)) else {
        return vec![Finding::skipped(CHECK, "no address is set")];
    };
    match roles::open_doors(url.expose()).await {
        Ok(doors) if doors.is_empty() => vec![Finding::ok(CHECK, "nobody may connect who need not")],
        Ok(doors) => doors
            .into_iter()
            .map(|door| Finding::warning(CHECK, door, "`utxoiq-store init`, as an administrator, takes that away: docs/operations/roles.md"))
            .collect(),
        Err(error) => vec![Finding::skipped(CHECK, format!("nobody could be asked: {error}"))],
    }
}

/// The schema, against this program's migrations.
pub async fn schema(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "schema";
    let Some(url) = url_of(around, 1).or_else(|| url_of(around, 0)) else {
        return vec![Finding::skipped(CHECK, "no address is set")];
    };
    let status = match Migrator::embedded() {
        Ok(migrator) => migrator.status(url.expose()).await,
        Err(error) => Err(error),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            return vec![Finding::skipped(
                CHECK,
                format!("it cannot be read: {error}"),
            )];
        }
    };
    let mut findings = Vec::new();
    if !status.pending.is_empty() {
        findings.push(Finding::failed(
            CHECK,
            format!(
                "{} migrations are not applied, the first is {}",
                status.pending.len(),
                status.pending[0]
            ),
            "`utxoiq-store migrate up`",
        ));
    }
    if !status.changed.is_empty() || !status.drift.is_empty() {
        findings.push(Finding::failed(
            CHECK,
            format!(
                "{} migrations are not what was applied, and {} lines of the catalogue differ",
                status.changed.len(),
                status.drift.len()
            ),
            "`utxoiq-store migrate status` shows them: docs/operations/migrations.md",
        ));
    }
    if !status.unknown.is_empty() {
        findings.push(Finding::warning(
            CHECK,
            format!(
                "{} migrations are newer than this program",
                status.unknown.len()
            ),
            "deploy the release that applied them everywhere",
        ));
    }
    if findings.is_empty() {
        let newest = status
            .applied
            .last()
            .map(utxoiq_store::db::migrate::Record::label);
        findings.push(Finding::ok(
            CHECK,
            format!("it is as recorded, at {}", newest.unwrap_or_default()),
        ));
    }
    findings
}

/// The server's settings, its clock, and the limits of sessions.
pub async fn server(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "database server";
    let Some(url) = url_of(around, 0) else {
        return vec![Finding::skipped(CHECK, "database.url is not set")];
    };
    let Ok(connection) = Dedicated::open(url.expose(), "utxoiq-store doctor").await else {
        return vec![Finding::skipped(CHECK, "the database does not let one in")];
    };
    let before = around.clock.now();
    let started = Instant::now();
    let asked = connection.query_one(queries::SERVER, &[]).await;
    let half = chrono::TimeDelta::from_std(started.elapsed() / 2).unwrap_or_default();
    connection.close().await;
    let row = match asked {
        Ok(row) => row,
        Err(error) => {
            return vec![Finding::skipped(
                CHECK,
                format!("it cannot be asked: {error}"),
            )];
        }
    };
    let text = |name: &str| row.try_get::<_, String>(name).unwrap_or_default();
    let figure = |name: &str| row.try_get::<_, i32>(name).unwrap_or_default();
    let is_here = DatabaseUrl::parse(url.expose(), "database.url")
        .is_ok_and(|url| url.stays_on_this_machine());
    let mut findings = vec![version(&text("version"), figure("version_number"))];
    findings.push(durability(
        &[
            ("fsync", text("fsync")),
            ("full_page_writes", text("full_page_writes")),
            ("synchronous_commit", text("synchronous_commit")),
        ],
        is_here,
    ));
    findings.push(connections(
        around,
        figure("max_connections") - figure("reserved"),
        figure("connected"),
    ));
    findings.push(encoding(&text("encoding")));
    findings.push(wal_level(&text("wal_level")));
    findings.push(super::redis::clock(
        "database clock",
        "PostgreSQL",
        row.try_get("now").ok(),
        before + half,
    ));
    findings.push(limits(around).await);
    findings
}

fn version(text: &str, number: i32) -> Finding {
    const CHECK: &str = "database version";
    if number < 150_000 {
        return Finding::failed(
            CHECK,
            format!("PostgreSQL {text} is too old"),
            "upgrade to PostgreSQL 15 or newer",
        );
    }
    Finding::ok(CHECK, format!("PostgreSQL {text}"))
}

/// Settings under which an acknowledged write may be lost.
fn durability(settings: &[(&str, String)], is_here: bool) -> Finding {
    const CHECK: &str = "database durability";
    let off: Vec<&str> = settings
        .iter()
        .filter(|(_, value)| value == "off")
        .map(|(name, _)| *name)
        .collect();
    if off.is_empty() {
        return Finding::ok(CHECK, "what is committed is on the disk");
    }
    let says = format!(
        "{} is off: what was acknowledged may be lost when the server crashes",
        off.join(" and ")
    );
    let mend = format!(
        "switch it on in postgresql.conf, or with `alter system set {} = on`, and reload",
        off[0]
    );
    // A developer's own server may be quick instead.
    if is_here {
        Finding::warning(CHECK, says, mend)
    } else {
        Finding::failed(CHECK, says, mend)
    }
}

fn connections(around: &Around, room: i32, connected: i32) -> Finding {
    const CHECK: &str = "database connections";
    // Beside the pool: what invalidates caches, and what retention and a backup have.
    const BESIDE: usize = 10;
    let one = i32::try_from(around.config.database.pool_max + BESIDE).unwrap_or(i32::MAX);
    let says = format!("room for {room}, {connected} are there; one instance takes up to {one}");
    if room < one {
        return Finding::failed(
            CHECK,
            says,
            "raise max_connections of the server, or lower database.pool_max",
        );
    }
    if room < 2 * one {
        return Finding::warning(
            CHECK,
            format!("{says}: not enough for a second one, nor for a rolling restart"),
            "raise max_connections of the server, or lower database.pool_max",
        );
    }
    Finding::ok(
        CHECK,
        format!("{says}: enough for {} instances", room / one),
    )
}

fn encoding(encoding: &str) -> Finding {
    const CHECK: &str = "database encoding";
    if encoding == "UTF8" {
        return Finding::ok(CHECK, "UTF8");
    }
    Finding::failed(
        CHECK,
        format!("{encoding}: comments of users are refused, or stored as something else"),
        "make the database anew with `encoding 'UTF8' template template0`",
    )
}

fn wal_level(level: &str) -> Finding {
    const CHECK: &str = "database replicas";
    if level == "minimal" {
        return Finding::warning(
            CHECK,
            "wal_level is minimal: no replica can follow, and no backup of the platform's own goes on from a base",
            "set wal_level to replica, and restart the server",
        );
    }
    Finding::ok(CHECK, format!("wal_level is {level}: replicas can follow"))
}

/// What the pool asks for; a proxy of connections between may drop it.
async fn limits(around: &Around) -> Finding {
    const CHECK: &str = "database sessions";
    let found = async {
        let store = around.store.as_ref()?;
        let connection = store.pool().get().await.ok()?;
        connection.query_one(queries::LIMITS, &[]).await.ok()
    };
    let Some(row) = found.await else {
        return Finding::skipped(CHECK, "the pool has no connection");
    };
    let text = |name: &str| row.try_get::<_, String>(name).unwrap_or_default();
    let without: Vec<&str> = ["statement_timeout", "lock_timeout", "idle_in_transaction"]
        .into_iter()
        .filter(|name| text(name) == "0")
        .collect();
    if !without.is_empty() || text("time_zone") != "UTC" {
        return Finding::failed(
            CHECK,
            format!(
                "sessions are without {}, in the time zone {}",
                without.join(", "),
                text("time_zone")
            ),
            "something between drops what sessions begin with: connect to PostgreSQL itself, or let the proxy pass `options`",
        );
    }
    Finding::ok(
        CHECK,
        format!(
            "statements end after {}, transactions that do nothing after {}",
            text("statement_timeout"),
            text("idle_in_transaction")
        ),
    )
}
