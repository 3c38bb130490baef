//! Files that commands write.
//!
//! A file appears under its name when it is complete, and not before: until then it has another name beside it, which goes
//! when the command fails or is interrupted.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use tempfile::NamedTempFile;

/// The exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// Likewise, by SIGTERM.
const TERMINATED: u8 = 143;

/// Does the work; interrupted, it is dropped where it is, and what it had not finished goes with it.
pub async fn or_interrupted(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        () = terminated() => Ok(ExitCode::from(TERMINATED)),
    }
}

/// Completes with the signal that service managers, cron and `timeout` send.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// A file to be.
pub struct Target {
    path: PathBuf,
    file: NamedTempFile,
    force: bool,
}

impl Target {
    /// At this path; refuses what is there, unless it is a file that may be replaced.
    pub fn new(path: &Path, force: bool) -> anyhow::Result<Self> {
        if path.is_dir() {
            anyhow::bail!("{} is a folder: name a file", path.display());
        }
        if let Ok(there) = path.symlink_metadata() {
            if !force {
                return Err(exists(path));
            }
            // A device, a pipe or a link would be replaced by a file, which nobody means.
            if !there.is_file() {
                anyhow::bail!(
                    "{} is no file: name a file, or leave --output out and redirect",
                    path.display()
                );
            }
        }
        // In the same folder, so that giving it its name is one step.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".utxoiq-store-export-")
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            force,
        })
    }

    /// Adds to it.
    pub fn write(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(piece);
        written.with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// Gives the file its name; one that has come meanwhile stays, unless it may be replaced.
    pub fn finish(self) -> anyhow::Result<PathBuf> {
        let failed = || format!("{} cannot be written", self.path.display());
        self.file.as_file().sync_all().with_context(failed)?;
        let named = if self.force {
            self.file.persist(&self.path)
        } else {
            self.file.persist_noclobber(&self.path)
        };
        match named {
            Ok(_) => Ok(self.path),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(exists(&self.path))
            }
            Err(error) => Err(anyhow::Error::new(error.error).context(failed())),
        }
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is there already: name another file, or replace it with --force",
        path.display()
    )
}
