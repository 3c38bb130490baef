//! pg_restore: from the unpacked dump into the database, in several jobs.
//!
//! The dump has no name, and each job opens it anew, with a place in it of its own: through the standard input of pg_restore, which
//! its jobs inherit. The list of what is to be restored has no name either; it is read through this process.
//!
//! What belongs to the server's administrator, and to no role that restores, is left out of that list: the schema public itself,
//! and the extensions, which [`prepare`](super::target::Ready::prepare) has made.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{Seek as _, Write as _},
    os::fd::AsRawFd as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr},
    time::timeout,
};

use super::{spool::nameless, target::Ready};
use crate::{
    backup::{
        Progress,
        connection::Target,
        dump::{tail, tool_failed},
        queries::target,
    },
    error::{Error, Result},
};

/// What the server's list of sessions shows.
const APPLICATION: &str = "utxoiq-store restore";

/// The most bytes of a list of what a dump has.
const LONGEST_LIST: u64 = 64 * 1024 * 1024;

/// How many lines are kept of what pg_restore complains of: the last ones.
const COMPLAINTS: usize = 50;

/// What the list does not have in it, as it spells it.
const LEFT_OUT: [&str; 4] = [
    "EXTENSION - ",
    "COMMENT - EXTENSION ",
    "SCHEMA - public ",
    "COMMENT - SCHEMA public ",
];

/// What to restore with, and how.
pub(super) struct Plan<'a> {
    pub tool: &'a Path,
    pub at: &'a Target,
    pub ready: &'a Ready,
    pub folder: &'a Path,
    pub jobs: usize,
    /// How long it may say nothing and do nothing.
    pub stall: Duration,
}

/// Restores all of the dump.
pub(super) async fn pour(plan: &Plan<'_>, dump: &File, progress: &Progress) -> Result<()> {
    let (list, items) = list(plan, dump).await?;
    progress.begin("restoring", items);
    // Read by pg_restore as this process's: it lives as long as the list is open.
    let list_path = format!("/proc/{}/fd/{}", std::process::id(), list.as_raw_fd());
    let mut child = plan
        .at
        .command(plan.tool, APPLICATION)
        .await?
        .env("PGOPTIONS", target::OPTIONS)
        .args(["--exit-on-error", "--no-password", "--verbose"])
        .arg(format!("--jobs={}", plan.jobs))
        .arg(format!("--use-list={list_path}"))
        .arg(format!("--dbname={}", plan.at.database()))
        .arg("/dev/stdin")
        .stdin(again(dump)?)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map(Family)
        .map_err(not_started)?;
    let complaints = child
        .0
        .stderr
        .take()
        .ok_or_else(|| Error::internal("pg_restore has no output"))?;
    let lines = BufReader::new(complaints).lines();
    let (status, complaints) = watch(plan, &mut child.0, lines, progress).await?;
    drop(list);
    if status.success() {
        return Ok(());
    }
    // The first error is the cause; the rest is what came of it.
    let cause = complaints
        .iter()
        .find(|line| line.contains("error: "))
        .or(complaints.back());
    let cause = cause.map_or("", String::as_str);
    let error = tool_failed("pg_restore", &status.to_string(), cause);
    Err(if complaints.is_empty() {
        error
    } else {
        error.with_source(Vec::from(complaints).join("\n"))
    })
}

/// pg_restore and the processes of its jobs: when nobody waits for it any more, all of them are killed. A job that is left alone
/// would go on to the end of its table.
struct Family(Child);

impl Drop for Family {
    fn drop(&mut self) {
        // None where its end was seen: then its jobs have ended, too.
        let leader = self
            .0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(leader) = leader {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// The dump as a standard input.
fn again(dump: &File) -> Result<Stdio> {
    dump.try_clone().map(Stdio::from).map_err(|error| {
        Error::internal("the unpacked dump could not be handed on").with_source(error)
    })
}

fn not_started(error: std::io::Error) -> Error {
    tool_failed("pg_restore", "it could not be started", "").with_source(error)
}

/// What of the dump is to be restored, in a file without a name, and how many items it is.
async fn list(plan: &Plan<'_>, dump: &File) -> Result<(File, u64)> {
    let mut child = plan
        .at
        .command(plan.tool, APPLICATION)
        .await?
        .args(["--list", "/dev/stdin"])
        .stdin(again(dump)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_started)?;
    let (Some(output), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::internal("pg_restore has no output"));
    };
    let mut text = String::new();
    let mut output = output.take(LONGEST_LIST);
    let listing = async {
        let (read, complaint) = tokio::join!(output.read_to_string(&mut text), tail(complaints));
        (read, complaint, child.wait().await)
    };
    let (read, complaint, status) = timeout(plan.stall, listing).await.map_err(|_| {
        tool_failed(
            "pg_restore",
            "it did not list what is in the dump, and was killed",
            "",
        )
    })?;
    let unseen = |error| tool_failed("pg_restore", "its list was not read", "").with_source(error);
    read.map_err(unseen)?;
    let status = status.map_err(unseen)?;
    if !status.success() {
        return Err(tool_failed("pg_restore", &status.to_string(), &complaint));
    }
    let (wanted, items) = wanted(&text);
    let mut list = nameless(plan.folder)?;
    let written = list
        .write_all(wanted.as_bytes())
        .and_then(|()| list.rewind());
    written.map_err(|error| {
        Error::unavailable(
            "scratch_unusable",
            "the list of what is in the dump could not be written",
        )
        .with_source(error)
    })?;
    Ok((list, items))
}

/// The lines of the list that are restored, and how many.
fn wanted(list: &str) -> (String, u64) {
    let mut items = 0;
    let mut text = String::with_capacity(list.len());
    for line in list.lines().filter(|line| !line.starts_with(';')) {
        // `4234; 0 0 COMMENT - EXTENSION btree_gist`: the number of the item, two of the catalogue, and what it is.
        let what = line.splitn(4, ' ').nth(3).unwrap_or_default();
        if line.is_empty() || LEFT_OUT.iter().any(|left_out| what.starts_with(left_out)) {
            continue;
        }
        items += 1;
        text.push_str(line);
        text.push('\n');
    }
    (text, items)
}

/// Follows pg_restore to its end: its status, and what it complained of.
async fn watch(
    plan: &Plan<'_>,
    child: &mut Child,
    mut lines: Lines<BufReader<ChildStderr>>,
    progress: &Progress,
) -> Result<(ExitStatus, VecDeque<String>)> {
    let pause = (plan.stall / 4).min(Duration::from_secs(5));
    let mut complaints = VecDeque::new();
    let mut steps = Steps::default();
    let mut seen = (Instant::now(), 0);
    let mut is_over = false;
    loop {
        let heard = async {
            if is_over {
                child.wait().await.map(Heard::End)
            } else {
                lines.next_line().await.map(Heard::Line)
            }
        };
        match timeout(pause, heard).await {
            Ok(Ok(Heard::End(status))) => return Ok((status, complaints)),
            Ok(Ok(Heard::Line(Some(line)))) => {
                seen.0 = Instant::now();
                if steps.tells_of_one(&line) {
                    progress.reach(steps.done());
                } else {
                    if complaints.len() == COMPLAINTS {
                        complaints.pop_front();
                    }
                    complaints.push_back(line.replace('\0', ""));
                }
            }
            Ok(Ok(Heard::Line(None))) => is_over = true,
            Ok(Err(error)) => {
                return Err(
                    tool_failed("pg_restore", "its output broke off", "").with_source(error)
                );
            }
            Err(_) => {
                // One large table is one line: then the server says whether it goes on.
                let moves = timeout(pause, plan.ready.moves(APPLICATION)).await;
                if let Ok(Ok((is_busy, done))) = moves
                    && (is_busy || done != seen.1)
                {
                    seen = (Instant::now(), done);
                } else if seen.0.elapsed() >= plan.stall {
                    let seconds = plan.stall.as_secs();
                    let how = format!("nothing moved for {seconds} s, and it was killed");
                    return Err(tool_failed("pg_restore", &how, ""));
                }
            }
        }
    }
}

enum Heard {
    Line(Option<String>),
    End(ExitStatus),
}

/// What pg_restore has done, by what it tells with `--verbose`: each item by its number in several jobs, without it in one.
#[derive(Default)]
struct Steps {
    items: HashSet<u64>,
    unnumbered: u64,
}

impl Steps {
    /// Whether a line only tells what is being done.
    fn tells_of_one(&mut self, line: &str) -> bool {
        let Some(told) = line.strip_prefix("pg_restore: ") else {
            return false;
        };
        let number = ["processing item ", "finished item "]
            .iter()
            .find_map(|prefix| told.strip_prefix(prefix))
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let Some(number) = number {
            self.items.insert(number);
            return true;
        }
        if told.starts_with("creating ") || told.starts_with("processing data for ") {
            self.unnumbered += 1;
            return true;
        }
        [
            "launching ",
            "entering ",
            "finished ",
            "connecting ",
            "executing ",
            "implied ",
        ]
        .iter()
        .any(|prefix| told.starts_with(prefix))
    }

    fn done(&self) -> u64 {
        match self.items.len() as u64 {
            0 => self.unnumbered,
            numbered => numbered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_administrator_is_left_out_of_the_list() {
        let list = "\
; Archive created at 2026-03-02 01:00:00 UTC
;     dbname: utxoiq
5; 2615 2200 SCHEMA - public postgres
4235; 0 0 COMMENT - SCHEMA public postgres
4233; 0 0 ACL - SCHEMA public pg_database_owner
2; 3079 729592 EXTENSION - btree_gist 
4234; 0 0 COMMENT - EXTENSION btree_gist 
215; 1259 729583 TABLE public EXTENSION utxoiq_owner

4182; 0 729583 TABLE DATA public schema_migrations utxoiq_owner
";
        let (wanted, items) = wanted(list);
        assert_eq!(items, 3);
        assert_eq!(
            wanted,
            "4233; 0 0 ACL - SCHEMA public pg_database_owner\n\
             215; 1259 729583 TABLE public EXTENSION utxoiq_owner\n\
             4182; 0 729583 TABLE DATA public schema_migrations utxoiq_owner\n"
        );
    }

    #[test]
    fn steps_are_counted_once_and_complaints_are_told_from_them() {
        let mut steps = Steps::default();
        for line in [
            "pg_restore: connecting to database for restore",
            "pg_restore: processing item 513 FUNCTION archive_abandon(uuid, text)",
            "pg_restore: creating FUNCTION \"public.archive_abandon(uuid, text)\"",
            "pg_restore: launching item 4182 TABLE DATA schema_migrations",
            "pg_restore: processing data for table \"public.schema_migrations\"",
            "pg_restore: finished item 4182 TABLE DATA schema_migrations",
            "pg_restore: finished main parallel loop",
        ] {
            assert!(steps.tells_of_one(line), "{line}");
        }
        assert_eq!(steps.done(), 2);
        for line in [
            "pg_restore: error: could not execute query: ERROR:  no",
            "Command was: CREATE TABLE x ();",
            "pg_restore: warning: errors ignored on restore: 1",
        ] {
            assert!(!steps.tells_of_one(line), "{line}");
        }
        assert_eq!(steps.done(), 2);
    }
}
