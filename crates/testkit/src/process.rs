//! Child processes that tests watch, freeze and kill.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::time::sleep;

use crate::last_will::LastWill;

const POLL: Duration = Duration::from_millis(5);
/// Lines kept of each process. The oldest go first: a test needs the latest, and a server under load logs for ever.
const LINES_KEPT: usize = 20_000;
/// A longer line is cut up: no output, however broken, may eat the memory of the test.
const LINE_LENGTH: u64 = 64 * 1024;

/// A child process in a process group of its own, with its output (both streams) kept line by line.
///
/// Dropping it kills the whole group with SIGKILL and waits for the child. A child of the child that made itself a
/// group of its own is out of reach.
///
/// The child is not reaped before that, even when it has ended and [`wait`](Self::wait) has told so: as long as it is
/// not, no other process can get its id, and a late signal can never hit a stranger.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    program: String,
    captured: Arc<Mutex<Captured>>,
    // Kept for its drop, which withdraws the will.
    _last_will: LastWill,
}

#[derive(Debug, Default)]
struct Captured {
    lines: VecDeque<String>,
    /// How many were forgotten before the first of `lines`.
    forgotten: usize,
    open_streams: usize,
}

impl Captured {
    fn push(&mut self, line: String) {
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        self.lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

impl Proc {
    /// Starts `program` with `args`; `envs` come on top of the environment of the test. Standard input is empty.
    pub fn spawn<A, K, V>(
        program: impl AsRef<Path>,
        args: impl IntoIterator<Item = A>,
        envs: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        A: AsRef<OsStr>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let mut command = Command::new(program.as_ref());
        command.args(args).envs(envs);
        Self::spawn_command(command)
    }

    /// Starts a command that the caller prepared (a working directory, an environment without some variable). Its
    /// streams and its process group are set here.
    pub fn spawn_command(mut command: Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
        let mut last_will = LastWill::new(None);
        last_will.kills_group(child.id());
        let captured = Arc::new(Mutex::new(Captured {
            open_streams: 2,
            ..Captured::default()
        }));
        let stdout = child.stdout.take().expect("the pipe was asked for");
        let stderr = child.stderr.take().expect("the pipe was asked for");
        capture(stdout, Arc::clone(&captured));
        capture(stderr, Arc::clone(&captured));
        Self {
            child,
            program,
            captured,
            _last_will: last_will,
        }
    }

    /// The process id, which is also the id of the process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything captured so far, both streams in the order of arrival (the latest 20,000 lines).
    pub fn output(&self) -> String {
        self.lock().text()
    }

    /// How many lines were captured so far: where to look from in
    /// [`wait_for_line_after`](Self::wait_for_line_after).
    pub fn lines_seen(&self) -> usize {
        let captured = self.lock();
        captured.forgotten + captured.lines.len()
    }

    /// Waits for the first line, from the start of the output, that `predicate` accepts. Fails, with the output so far,
    /// when the time is up or the output has ended without it.
    pub async fn wait_for_line(
        &self,
        predicate: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<String, String> {
        self.wait_for_line_after(0, predicate, timeout).await
    }

    /// The same, and the first `seen` lines do not count: for what comes next.
    pub async fn wait_for_line_after(
        &self,
        seen: usize,
        predicate: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<String, String> {
        let deadline = Instant::now() + timeout;
        let mut next = seen;
        loop {
            {
                let captured = self.lock();
                let skipped = next.saturating_sub(captured.forgotten);
                if let Some(line) = captured
                    .lines
                    .iter()
                    .skip(skipped)
                    .find(|line| predicate(line))
                {
                    return Ok(line.clone());
                }
                next = next.max(captured.forgotten + captured.lines.len());
                let why = if captured.open_streams == 0 {
                    "ended without"
                } else {
                    "has not printed"
                };
                if captured.open_streams == 0 || Instant::now() >= deadline {
                    return Err(format!(
                        "{} {why} the expected line. Its output:\n{}",
                        self.program,
                        captured.text()
                    ));
                }
            }
            sleep(POLL).await;
        }
    }

    /// Waits until it has ended and its output is complete; `None` when the time is up. Children that it leaves behind
    /// and that hold its output open are not waited for.
    pub async fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.status() {
                let drained = Instant::now() + Duration::from_millis(200);
                while self.lock().open_streams > 0 && Instant::now() < drained {
                    sleep(POLL).await;
                }
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(POLL).await;
        }
    }

    /// How it ended; `None` while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.id()), options).expect("cannot wait for a child")?;
        // The layout of a wait status: the exit code in the second byte, a signal in the first.
        let raw = status
            .exit_status()
            .map(|code| code << 8)
            .or_else(|| status.terminating_signal());
        raw.map(ExitStatus::from_raw)
    }

    /// SIGKILL to the process and all of its group, as when the machine is switched off.
    pub fn kill9(&self) {
        self.signal_group(Signal::KILL);
    }

    /// SIGKILL to the process alone, as the kernel's out-of-memory killer does: its children live on as orphans.
    pub fn kill9_alone(&self) {
        let _ = kill_process(self.id(), Signal::KILL);
    }

    /// SIGTERM to the process alone, as a supervisor does.
    pub fn terminate(&self) {
        let _ = kill_process(self.id(), Signal::TERM);
    }

    /// SIGINT to all of its group, as Ctrl-C in a terminal does.
    pub fn interrupt(&self) {
        self.signal_group(Signal::INT);
    }

    /// SIGSTOP to all of its group: frozen, with its sockets open, until [`cont`](Self::cont).
    pub fn stop(&self) {
        self.signal_group(Signal::STOP);
    }

    /// SIGCONT to all of its group.
    pub fn cont(&self) {
        self.signal_group(Signal::CONT);
    }

    fn signal_group(&self, signal: Signal) {
        // An error means that nobody is left in the group, which is no failure of the test.
        let _ = kill_process_group(self.id(), signal);
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        lock(&self.captured)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill9();
        let _ = self.child.wait();
    }
}

fn lock(captured: &Mutex<Captured>) -> MutexGuard<'_, Captured> {
    captured.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread per stream reads it to its end: a pipe that nobody empties would stop the child.
fn capture(stream: impl Read + Send + 'static, captured: Arc<Mutex<Captured>>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(1..) = reader
            .by_ref()
            .take(LINE_LENGTH)
            .read_until(b'\n', &mut line)
        {
            while line
                .last()
                .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
            {
                line.pop();
            }
            lock(&captured).push(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
        lock(&captured).open_streams -= 1;
    });
}
