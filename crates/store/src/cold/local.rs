//! What a folder as object store leaves behind: the file that an object is gathered in until it is whole, where its writer was
//! killed. The client's listing does not show it, and nobody else looks for it.

use std::{fs, io, path::PathBuf, sync::Arc};

use url::Url;

use super::{fetched::blocking, key::Key};
use crate::error::{Error, Result};

/// The folder of an address, where it is one of a folder.
pub(super) fn folder_of(url: &str) -> Option<PathBuf> {
    let parsed = Url::parse(url).ok()?;
    (parsed.scheme() == "file").then(|| parsed.to_file_path().ok())?
}

/// Removes what was gathered of an object: files beside it with its name, `#` and a number.
pub(super) async fn remove_unfinished(folder: Arc<PathBuf>, key: impl Key) -> Result<()> {
    blocking(move || {
        remove(&folder.join(key.to_string())).map_err(|error| {
            Error::unavailable(
                "cold_store_unavailable",
                "what an unfinished write left in the folder of cold.url could not be removed: look at its rights",
            )
            .with_source(error)
        })
    })
    .await
}

fn remove(object: &std::path::Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (
        object.parent(),
        object.file_name().and_then(|name| name.to_str()),
    ) else {
        return Ok(());
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let rest = file
            .to_str()
            .and_then(|file| file.strip_prefix(name)?.strip_prefix('#'));
        if rest.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        }) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_gathered_of_the_object_goes() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a.parquet",
            "a.parquet#1",
            "a.parquet#22",
            "a.parquet#",
            "a.parquet#x",
            "b.parquet#1",
        ] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove(&folder.path().join("a.parquet")).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["a.parquet", "a.parquet#", "a.parquet#x", "b.parquet#1"]
        );
        remove(&folder.path().join("no folder").join("a")).unwrap();
    }
}
