//! Free space, where this process writes.

use std::path::{Path, PathBuf};

use url::Url;

use super::{Around, Finding};

const CHECK: &str = "free space";

/// Below which something will fail, and below which somebody should look.
const TOO_LITTLE: u64 = 256 << 20;
const LITTLE: u64 = 2 << 30;

/// Each folder that is written to.
#[allow(clippy::unused_async)] // as all checks are
pub async fn look(around: &Around) -> Vec<Finding> {
    let config = &around.config;
    let temporary = std::env::temp_dir();
    let or_temporary = |folder: &Option<String>| {
        folder
            .as_ref()
            .map_or_else(|| temporary.clone(), PathBuf::from)
    };
    let mut folders = vec![
        ("copies of archives", or_temporary(&config.cold.cache_dir)),
        ("restores", or_temporary(&config.backup.scratch_dir)),
    ];
    for (what, url) in [
        ("archives", &config.cold.url),
        ("backups", &config.backup_store.url),
        ("second copies", &config.backup_copy.url),
    ] {
        let url = url.as_deref().and_then(|url| Url::parse(url).ok());
        let folder = url
            .filter(|url| url.scheme() == "file")
            .and_then(|url| url.to_file_path().ok());
        folders.extend(folder.map(|folder| (what, folder)));
    }
    folders
        .into_iter()
        .map(|(what, folder)| of_folder(what, &folder))
        .collect()
}

fn of_folder(what: &str, folder: &Path) -> Finding {
    // What is made when it is first needed lies below what is there.
    let there = folder
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"));
    let Ok(found) = rustix::fs::statvfs(there) else {
        return Finding::skipped(
            CHECK,
            format!("{what}: {} cannot be asked", folder.display()),
        );
    };
    judged(what, folder, found.f_bavail.saturating_mul(found.f_frsize))
}

fn judged(what: &str, folder: &Path, free: u64) -> Finding {
    let says = format!(
        "{what}: {} in {}",
        indicatif::HumanBytes(free),
        folder.display()
    );
    let mend = format!(
        "make room on the disk of {}, or name a folder on another one",
        folder.display()
    );
    if free < TOO_LITTLE {
        Finding::failed(CHECK, says, mend)
    } else if free < LITTLE {
        Finding::warning(CHECK, says, mend)
    } else {
        Finding::ok(CHECK, says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn little_space_is_told_before_it_is_too_little() {
        let state = |free| judged("archives", Path::new("/data"), free).state;
        assert_eq!(state(TOO_LITTLE - 1), State::Failed);
        assert_eq!(state(TOO_LITTLE), State::Warning);
        assert_eq!(state(LITTLE), State::Ok);
    }
}
