//! Writing an archive, and proving that it is there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    ColdStore, ColumnStats, Dataset, ObjectKey, SeriesNames, StoredObject,
    columns::{Gathering, digest_rows},
    digest::ContentDigest,
    encode::{Encoded, Rows, encode},
    fetched::{Fetched, blocking},
    stats::Gathered,
    upload::upload,
};
use crate::{
    db::Copied,
    error::{Error, Result},
};

/// How many rows go to the encoder at once.
pub(super) const ROWS_A_BATCH: usize = 8_192;

/// The most bytes that do, for rows that are long.
const BYTES_A_BATCH: usize = 4 * 1024 * 1024;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// How many rows.
    pub rows: u64,
    /// The object's size.
    pub bytes: u64,
    /// The SHA-256 of the object's bytes, in hexadecimal.
    pub sha256: String,
    /// The content digest: what the database computes over the same rows.
    pub content: String,
    /// The columns, those of the series' names last.
    pub columns: Vec<ColumnStats>,
}

impl Written {
    /// The object, as it is fetched.
    pub fn object(&self, key: ObjectKey) -> StoredObject {
        StoredObject {
            key: key.object(),
            bytes: self.bytes,
            sha256: self.sha256.clone(),
        }
    }
}

impl ColdStore {
    /// Writes the rows of a COPY of the dataset's columns, in the order of its key, as one object: streamed, with memory for a
    /// row group and a few parts, whatever their number. Samples come with the names of their series.
    ///
    /// That the store says it has stored them is no proof: [`prove`](Self::prove) asks. Where this fails, or its caller goes
    /// away, there is no object, or one of a key that nobody will use.
    ///
    /// # Errors
    ///
    /// `internal` for rows that are not the dataset's, out of order or there twice; `cold_store_unavailable`.
    pub async fn write(
        &self,
        key: ObjectKey,
        mut rows: Copied,
        names: Option<&SeriesNames>,
    ) -> Result<Written> {
        let dataset = key.about().dataset;
        let names = names.cloned().map(Arc::new);
        self.store_rows(key, names, async move |batches| {
            let mut digest = ContentDigest::new(dataset);
            let mut gathering = Gathering::new(dataset, ROWS_A_BATCH);
            while let Some(row) = rows.next().await? {
                gathering.push(row.as_slice(), &mut digest)?;
                let is_full =
                    gathering.rows() >= ROWS_A_BATCH || gathering.bytes() >= BYTES_A_BATCH;
                if is_full && batches.send(Rows::Batch(gathering.take()?)).await.is_err() {
                    return Ok(None);
                }
            }
            if gathering.rows() > 0 && batches.send(Rows::Batch(gathering.take()?)).await.is_err() {
                return Ok(None);
            }
            Ok(batches.send(Rows::End).await.is_ok().then_some(digest))
        })
        .await
    }

    /// Encodes and uploads what `feed` gives. It returns the digest of all rows, or `None` where nobody takes them any more.
    pub(super) async fn store_rows(
        &self,
        key: ObjectKey,
        names: Option<Arc<SeriesNames>>,
        feed: impl AsyncFnOnce(mpsc::Sender<Rows>) -> Result<Option<ContentDigest>>,
    ) -> Result<Written> {
        let (batches, rows) = mpsc::channel(2);
        let (part, parts) = mpsc::channel(1);
        let encoding = blocking(move || encode(key, names.as_deref(), rows, part));
        let (fed, encoded, uploaded) =
            tokio::join!(feed(batches), encoding, upload(&self.remote, key, parts));
        // Who failed made the others stop.
        let stopped = || Error::internal("an archive was not written to its end");
        let is_stored = uploaded?;
        let digest = fed?;
        let Encoded {
            rows,
            bytes,
            sha256,
            columns,
        } = encoded?.ok_or_else(stopped)?;
        let digest = digest.filter(|_| is_stored).ok_or_else(stopped)?;
        Ok(Written {
            rows,
            bytes,
            sha256,
            content: digest.finish(),
            columns,
        })
    }

    /// Reads a whole object back from the store, and compares it with what was written: its size and hash, and, decoded, its
    /// rows, each column's nulls, least and greatest value, and the content digest.
    ///
    /// # Errors
    ///
    /// `cold_object_differs`, naming what differs; `cold_object_missing`; `cold_store_unavailable`.
    pub async fn prove(&self, key: ObjectKey, written: &Written) -> Result<Fetched> {
        let object = written.object(key);
        let fetched = self.fetch_anew(&object).await.map_err(|error| {
            if error.code() == "cold_object_damaged" {
                differs(key, error.message()).with_source(error)
            } else {
                error
            }
        })?;
        let (decoding, key) = (fetched.clone(), key.object());
        let (found_rows, found_content, found_columns) =
            blocking(move || decoding.figures()).await?;
        compare(key, "rows", &written.rows, &found_rows)?;
        for (wanted, found) in written.columns.iter().zip(&found_columns) {
            let of = |what: &str| format!("the column {}: {what}", wanted.name);
            compare(key, &of("its name"), &wanted.name, &found.name)?;
            compare(key, &of("its nulls"), &wanted.nulls, &found.nulls)?;
            compare(key, &of("its least value"), &wanted.min, &found.min)?;
            compare(key, &of("its greatest value"), &wanted.max, &found.max)?;
        }
        compare(key, "columns", &written.columns.len(), &found_columns.len())?;
        compare(key, "the content digest", &written.content, &found_content)?;
        Ok(fetched)
    }
}

impl Fetched {
    /// What is in the file: rows, content digest and columns. Blocks.
    fn figures(&self) -> Result<(u64, String, Vec<ColumnStats>)> {
        let dataset: Dataset = self.dataset();
        let reader = self.reader().with_batch_size(ROWS_A_BATCH).build();
        let reader = reader.map_err(|error| self.undecodable(error))?;
        let mut stats = Gathered::new(dataset);
        let mut digest = ContentDigest::new(dataset);
        for batch in reader {
            let batch = batch.map_err(|error| self.undecodable(error))?;
            stats.add(&batch)?;
            digest_rows(&mut digest, dataset, &batch)?;
        }
        Ok((stats.rows(), digest.finish(), stats.finish()))
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(
    key: ObjectKey,
    what: &str,
    wanted: &T,
    found: &T,
) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    let source = format!("{what}: {wanted:?} was written, {found:?} is there");
    Err(differs(key, what).with_source(source))
}

/// The error of an object that was written and is not what was written.
pub(super) fn differs(key: ObjectKey, what: &str) -> Error {
    Error::unavailable(
        "cold_object_differs",
        format!(
            "{key}, read back from the object store, differs from what was written: {what}; nothing was deleted, and the next run writes it anew"
        ),
    )
}
