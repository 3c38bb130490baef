//! Finding PostgreSQL's own tools: `pg_dump` and `pg_restore` of a version that fits the server.
//!
//! # What it guarantees
//!
//! * **Never one that is older than the server**, nor, for restoring, than the tool that dumped: `pg_dump` refuses a server that is
//!   newer than itself, and `pg_restore` an archive of a newer format.
//! * **The server's own version where there is one, else the lowest that is newer.** What a newer `pg_dump` writes and a newer
//!   `pg_restore` sends names settings that an older server does not know (17's `transaction_timeout`, for 16), so a newer tool is
//!   what there is when there is nothing better.
//! * **Asked, not guessed.** A tool's version is what it answers to `--version`, within [`ASKED_FOR`] and 1 KiB; what does not
//!   answer so is not used, whatever its folder is called.
//! * **Where there is none**, `backup_tool_missing` says what was looked for and where, what was found there, and what to install.
//!
//! # Where it looks
//!
//! In the folder that is configured, and then nowhere else; otherwise in those of `PATH`, and where packages put versions beside
//! each other: `/usr/lib/postgresql/*/bin` (Debian, Ubuntu), `/usr/pgsql-*/bin` (Red Hat and its kin), `/usr/local/pgsql/bin`
//! (built from source), `/opt/*/bin`.
//!
//! Debian's `/usr/bin/pg_dump` is a wrapper that chooses anew, each time it is called, which version it runs: its answer says
//! nothing of the next call, so it is passed over for what it would run.
//!
//! `amcheck` is an extension that is called by SQL; no tool is needed for it.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, process::Command, task::spawn_blocking, time::timeout};

use crate::error::{Error, Result};

/// How long a tool has to say its version.
pub const ASKED_FOR: Duration = Duration::from_secs(5);

/// How much of its answer is read.
const LONGEST_ANSWER: u64 = 1024;

/// What Debian's wrapper is called.
const WRAPPER: &str = "pg_wrapper";

/// A program of PostgreSQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `pg_dump`.
    Dump,
    /// `pg_restore`.
    Restore,
}

impl Tool {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dump => "pg_dump",
            Self::Restore => "pg_restore",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// 15 of 15.18.
    pub major: u32,
    /// 18 of 15.18; nothing for one before its release, as 18beta1, which is therefore older than 18.0.
    pub minor: Option<u32>,
    /// As the tool says it, with what its packager added: `15.18 (Debian 15.18-0+deb12u1)`.
    pub text: String,
}

impl Version {
    /// From what a tool answers to `--version`; `None` where that is no answer of this tool.
    pub fn parse(tool: Tool, answer: &str) -> Option<Self> {
        let text = answer
            .lines()
            .next()?
            .strip_prefix(tool.as_str())?
            .strip_prefix(" (PostgreSQL) ")?
            .trim();
        let end = |text: &str| {
            text.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let (major, rest) = text.split_at(end(text));
        let minor = match rest.strip_prefix('.') {
            Some(rest) => Some(rest[..end(rest)].parse().ok()?),
            None => None,
        };
        Some(Self {
            major: major.parse().ok()?,
            minor,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A tool that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What it says that it is.
    pub version: Version,
}

/// Where tools are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    configured: Option<PathBuf>,
    path: Vec<PathBuf>,
}

/// What was met in a search.
#[derive(Default)]
struct Looked {
    folders: Vec<PathBuf>,
    found: Vec<Found>,
    /// What could not be used, and why.
    passed_over: Vec<(PathBuf, &'static str)>,
}

impl Tools {
    /// In the configured folder, or where tools usually are.
    pub fn new(configured: Option<PathBuf>) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            configured,
            path: env::split_paths(&path)
                .filter(|folder| folder.is_absolute())
                .collect(),
        }
    }

    /// The `pg_dump` for a server of a major version: of the same one, else of the lowest that is newer.
    ///
    /// # Errors
    ///
    /// `backup_tool_missing`.
    pub async fn for_dump(&self, server: u32) -> Result<Found> {
        self.at_least(Tool::Dump, server, &format!("a server of version {server}"))
            .await
    }

    /// The `pg_restore` for what a `pg_dump` of a major version dumped, into a server of a major version: the lowest that is at
    /// least as new as both.
    ///
    /// # Errors
    ///
    /// `backup_tool_missing`.
    pub async fn for_restore(&self, dumped_by: u32, server: u32) -> Result<Found> {
        let what = format!("a dump of pg_dump {dumped_by} into a server of version {server}");
        self.at_least(Tool::Restore, dumped_by.max(server), &what)
            .await
    }

    async fn at_least(&self, tool: Tool, major: u32, what: &str) -> Result<Found> {
        let looked = self.look(tool).await?;
        let fitting = looked
            .found
            .iter()
            .filter(|found| found.version.major >= major);
        // Of one major version the latest; of two that are alike the one that is met first.
        let best = fitting.min_by_key(|found| {
            let Version { major, minor, .. } = &found.version;
            (*major, Reverse(*minor))
        });
        best.cloned()
            .ok_or_else(|| missing(tool, major, what, &looked))
    }

    /// All that is there, in the order of the folders.
    async fn look(&self, tool: Tool) -> Result<Looked> {
        let tools = self.clone();
        let (mut looked, programs) =
            spawn_blocking(move || tools.programs(tool))
                .await
                .map_err(|error| {
                    Error::internal("looking for PostgreSQL's tools was broken off")
                        .with_source(error)
                })?;
        for path in programs {
            match asked(tool, &path).await {
                Ok(version) => looked.found.push(Found { path, version }),
                Err(why) => looked.passed_over.push((path, why)),
            }
        }
        Ok(looked)
    }

    /// The programs of the tool's name, each once however many ways lead to it.
    fn programs(&self, tool: Tool) -> (Looked, Vec<PathBuf>) {
        let mut looked = Looked::default();
        let mut programs = Vec::new();
        let mut met = BTreeSet::new();
        for folder in self.folders() {
            let path = folder.join(tool.as_str());
            looked.folders.push(folder);
            let Ok(real) = fs::canonicalize(&path) else {
                continue;
            };
            if real.file_name().is_some_and(|name| name == WRAPPER) {
                let why = "is Debian's wrapper, which chooses a version by itself";
                looked.passed_over.push((path, why));
            } else if met.insert(real) {
                programs.push(path);
            }
        }
        (looked, programs)
    }

    fn folders(&self) -> Vec<PathBuf> {
        if let Some(folder) = &self.configured {
            return vec![folder.clone()];
        }
        let mut folders = self.path.clone();
        for (parent, prefix) in [
            ("/usr/lib/postgresql", ""),
            ("/usr", "pgsql-"),
            ("/usr/local", "pgsql"),
            ("/opt", ""),
        ] {
            folders.extend(versions_in(Path::new(parent), prefix));
        }
        let mut met = BTreeSet::new();
        folders.retain(|folder| met.insert(folder.clone()));
        folders
    }
}

/// The folders `bin` in those of a folder whose names begin so.
fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    folders
}

/// What a program says that it is.
async fn asked(tool: Tool, path: &Path) -> Result<Version, &'static str> {
    let asking = async {
        let mut program = Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|_| "cannot be run")?;
        let mut answer = Vec::new();
        if let Some(output) = program.stdout.take() {
            let read = output.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
            read.map_err(|_| "does not say its version")?;
        }
        Version::parse(tool, &String::from_utf8_lossy(&answer)).ok_or("does not say its version")
    };
    timeout(ASKED_FOR, asking)
        .await
        .unwrap_or(Err("does not say its version in time"))
}

fn missing(tool: Tool, major: u32, what: &str, looked: &Looked) -> Error {
    let folders: Vec<String> = looked
        .folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    let found: Vec<String> = looked
        .found
        .iter()
        .map(|found| format!("{} is {}", found.path.display(), found.version))
        .chain(
            looked
                .passed_over
                .iter()
                .map(|(path, why)| format!("{} {why}", path.display())),
        )
        .collect();
    let found = if found.is_empty() {
        "nothing of that name".to_owned()
    } else {
        found.join("; ")
    };
    Error::unavailable(
        "backup_tool_missing",
        format!(
            "there is no {tool} for {what}, which needs version {major} or newer: looked in {}, found {found}; install PostgreSQL's client programs of version {major} (Debian: postgresql-client-{major}), or configure the folder that has them",
            folders.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests;
