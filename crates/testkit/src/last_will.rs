//! What happens to a test's servers when the test process dies before it can drop them.
//!
//! `Drop` runs on return and on panic, not on `kill -9`, `abort` or Ctrl-C. So each server has a watcher: a small shell
//! outside the test's process group whose standard input is a pipe that only the test process holds. However that
//! process ends, the kernel closes the pipe; the watcher reads the end of it, kills what it was told last and removes
//! the directory. (The parent-death signal of Linux would be simpler, but it follows the *thread* that started the
//! child, and test threads come and go.)

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$1` is the directory or nothing. (`-s KILL`: after `-KILL`, dash takes no `--` and so no process group.) Each line read is what `kill` is to be called with, or empty when nothing runs.
const SCRIPT: &str = r#"
target=
while read -r line; do target=$line; done
if [ -n "$target" ]; then
    kill -s KILL -- "$target" 2>/dev/null
    sleep 1
fi
if [ -n "$1" ]; then
    rm -rf -- "$1"
fi
"#;

/// A watcher; dropping it withdraws the will: it then kills and removes nothing.
#[derive(Debug)]
pub struct LastWill {
    watcher: Child,
}

impl LastWill {
    /// Starts the watcher; `dir` is removed when the test process dies.
    pub fn new(dir: Option<&Path>) -> Self {
        let watcher = Command::new("sh")
            .args(["-c", SCRIPT, "watcher"])
            .arg(dir.unwrap_or(Path::new("")))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start sh to watch over the test's servers");
        Self { watcher }
    }

    /// This process is to be killed with the test process.
    pub fn kills_process(&mut self, pid: u32) {
        self.say(&pid.to_string());
    }

    /// This process group is to be killed with the test process.
    pub fn kills_group(&mut self, leader: u32) {
        self.say(&format!("-{leader}"));
    }

    /// Nothing runs: what was named before has ended, and its id may belong to somebody else by now.
    pub fn kills_nothing(&mut self) {
        self.say("");
    }

    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.watcher.stdin {
            // A watcher that somebody killed is no reason to fail the test: it only matters if this process dies too.
            let _ = writeln!(pipe, "{line}");
        }
    }
}

impl Drop for LastWill {
    fn drop(&mut self) {
        // Killed before the pipe closes, so that it cannot read the end and act.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}
