//! Programs of others, installed once below the target folder. Where they cannot be had, their tests say so and end.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{process::Command, sync::Mutex};

/// Where they are kept between runs.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cold-tools")
}

/// An interpreter that has a module.
pub async fn python_with(package: &str, module: &str) -> Result<PathBuf, String> {
    // One installs, the others wait.
    static INSTALLING: Mutex<()> = Mutex::const_new(());
    let _one = INSTALLING.lock().await;
    let folder = kept().join(module);
    let python = folder.join("bin/python");
    let check = format!("import {module}");
    if run(&python, &["-c", &check]).await.is_err() {
        let place = folder.to_string_lossy().into_owned();
        run(Path::new("python3"), &["-m", "venv", &place]).await?;
        run(&python, &["-m", "pip", "install", "--quiet", package]).await?;
    }
    Ok(python)
}

/// What a program prints; what it complains of where it fails.
pub async fn run(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

pub fn skip(why: &str) {
    eprintln!("SKIPPED, for want of what it is about: {why}");
}
