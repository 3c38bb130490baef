//! psql, as a process.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Runs a script; gives how long it took.
pub fn run(url: &str, script: &str) -> Duration {
    let program = std::env::var_os("PG_BIN").map_or_else(
        || "psql".into(),
        |folder| std::path::PathBuf::from(folder).join("psql"),
    );
    let mut url = url::Url::parse(url).unwrap();
    let password = url.password().unwrap_or_default().to_owned();
    // Arguments are public on a machine.
    url.set_password(None).unwrap();
    let began = Instant::now();
    let mut child = Command::new(program)
        .args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-o",
            "/dev/null",
            "-d",
            url.as_str(),
        ])
        .env("PGPASSWORD", password)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "psql failed");
    began.elapsed()
}
