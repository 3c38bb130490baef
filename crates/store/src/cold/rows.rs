//! The rows of an archive: as JSON, as binary COPY, and without some of them.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::{BufMut as _, Bytes};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReader};
use uuid::Uuid;

use super::{
    ColdStore, Dataset, Fetched, ObjectKey, SeriesNames, Value, Written,
    columns::{self, Gathering, Values},
    dataset::SERIES_NAMES,
    digest::ContentDigest,
    encode::Rows,
    fetched::blocking,
    stats::time_text,
    write::ROWS_A_BATCH,
};
use crate::error::{Error, Result};

/// Signature, flags, and the length of an extension, which is none.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A row of -1 fields.
const COPY_TRAILER: &[u8] = &[0xff, 0xff];

/// One row of an archive.
#[derive(Clone, Copy)]
pub struct RowView<'a> {
    dataset: Dataset,
    values: &'a [Values<'a>],
    row: usize,
}

impl<'a> RowView<'a> {
    /// The value of a column; `None` where the dataset has none of that name.
    pub fn get(&self, column: &str) -> Option<Value<'a>> {
        let columns = self.dataset.columns();
        let at = columns.iter().position(|known| known.name == column)?;
        Some(self.values[at].get(self.row))
    }

    /// A text; `None` for null, and for what is none.
    pub fn text(&self, column: &str) -> Option<&'a str> {
        match self.get(column)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The row as a JSON object: numbers, RFC 3339 times with microseconds, texts, UUIDs as texts, nulls.
    pub fn to_json(&self) -> serde_json::Value {
        let columns = self.dataset.columns().iter().zip(self.values);
        let members = columns.map(|(column, values)| {
            let value = match values.get(self.row) {
                Value::Null => serde_json::Value::Null,
                Value::Int4(value) => value.into(),
                Value::Int8(value) => value.into(),
                Value::Float8(value) => value.into(),
                Value::Time(value) => time_text(value).into(),
                Value::Text(value) => value.into(),
                Value::Uuid(value) => Uuid::from_bytes(value).to_string().into(),
            };
            (column.name.to_owned(), value)
        });
        serde_json::Value::Object(members.collect())
    }

    /// Appends the row's fields as in binary COPY, without their number.
    fn encode(&self, into: &mut Vec<u8>) {
        for values in self.values {
            values.get(self.row).encode(into);
        }
    }

    /// The same for the table that the rows are from, which has as jsonb what an archive has as its text: binary COPY wants
    /// the version of its form, 1, in front.
    fn encode_for_table(&self, into: &mut Vec<u8>) {
        for (column, values) in self.dataset.columns().iter().zip(self.values) {
            match values.get(self.row) {
                Value::Text(text) if is_json(self.dataset, column.name) => {
                    into.put_i32(i32::try_from(text.len() + 1).unwrap_or(i32::MAX));
                    into.put_u8(1);
                    into.put_slice(text.as_bytes());
                }
                value => value.encode(into),
            }
        }
    }
}

fn is_json(dataset: Dataset, column: &str) -> bool {
    dataset == Dataset::Metrics && column == "metadata"
}

/// Batches on demand: decoding goes on when the next one is asked for, and holds no thread in between.
pub(super) struct Pull {
    fetched: Fetched,
    reader: Option<ParquetRecordBatchReader>,
}

impl Pull {
    /// The batches of a reader, made when the first is asked for.
    pub fn new(fetched: &Fetched, reader: ParquetRecordBatchReader) -> Self {
        Self {
            fetched: fetched.clone(),
            reader: Some(reader),
        }
    }

    /// Has `work` done with the next batch; `None` behind the last.
    pub async fn next<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&RecordBatch) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        let fetched = self.fetched.clone();
        let (reader, done) = blocking(move || {
            let Some(batch) = reader.next() else {
                return Ok((None, None));
            };
            let batch = batch.map_err(|error| fetched.undecodable(error))?;
            Ok((Some(reader), Some(work(&batch)?)))
        })
        .await?;
        self.reader = reader;
        Ok(done)
    }
}

fn each_row(
    dataset: Dataset,
    batch: &RecordBatch,
    mut visit: impl FnMut(&RowView<'_>) -> Result<()>,
) -> Result<()> {
    let values = columns::values(dataset, batch)?;
    for row in 0..batch.num_rows() {
        visit(&RowView {
            dataset,
            values: &values,
            row,
        })?;
    }
    Ok(())
}

/// The rows of an archive as JSON objects, some thousands at once.
pub struct Batches(Pull);

impl Batches {
    /// The next rows; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Vec<serde_json::Value>>> {
        let dataset = self.0.fetched.dataset();
        self.0
            .next(move |batch| {
                let mut rows = Vec::with_capacity(batch.num_rows());
                each_row(dataset, batch, |row| {
                    rows.push(row.to_json());
                    Ok(())
                })?;
                Ok(rows)
            })
            .await
    }
}

/// The rows of an archive as COPY … FROM STDIN (FORMAT binary) takes them.
pub struct CopyIn {
    pull: Pull,
    state: CopyState,
    is_for_table: bool,
}

#[derive(PartialEq)]
enum CopyState {
    Header,
    Rows,
    Over,
}

impl CopyIn {
    /// The next bytes; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.state {
            CopyState::Over => return Ok(None),
            CopyState::Header => {
                self.state = CopyState::Rows;
                return Ok(Some(Bytes::from_static(COPY_HEADER)));
            }
            CopyState::Rows => {}
        }
        let dataset = self.pull.fetched.dataset();
        let columns = i16::try_from(dataset.columns().len()).unwrap_or_default();
        let is_for_table = self.is_for_table;
        let rows = self
            .pull
            .next(move |batch| {
                let mut bytes = Vec::new();
                each_row(dataset, batch, |row| {
                    bytes.put_i16(columns);
                    if is_for_table {
                        row.encode_for_table(&mut bytes);
                    } else {
                        row.encode(&mut bytes);
                    }
                    Ok(())
                })?;
                Ok(bytes)
            })
            .await?;
        if let Some(rows) = rows {
            return Ok(Some(rows.into()));
        }
        self.state = CopyState::Over;
        Ok(Some(Bytes::from_static(COPY_TRAILER)))
    }
}

impl Fetched {
    fn all(&self) -> Result<Pull> {
        let reader = self.reader().with_batch_size(ROWS_A_BATCH).build();
        let reader = reader.map_err(|error| self.undecodable(error))?;
        Ok(Pull::new(self, reader))
    }

    /// All rows, in the order of their key, as JSON objects.
    pub fn rows(&self) -> Result<Batches> {
        self.all().map(Batches)
    }

    /// All rows, in the order of their key, as COPY … FROM STDIN (FORMAT binary) takes them.
    pub fn copy_in(&self) -> Result<CopyIn> {
        Ok(CopyIn {
            pull: self.all()?,
            state: CopyState::Header,
            is_for_table: false,
        })
    }

    /// The same for the table of samples itself, into (`series_id`, `sampled_at`, `value`, `metadata`).
    pub fn copy_in_samples(&self) -> Result<CopyIn> {
        Ok(CopyIn {
            is_for_table: true,
            ..self.copy_in()?
        })
    }

    /// What the series of an archive of metrics were called when it was written; none for other datasets.
    pub async fn names(&self) -> Result<SeriesNames> {
        let fetched = self.clone();
        blocking(move || fetched.read_names()).await
    }

    fn read_names(&self) -> Result<SeriesNames> {
        let mut names = SeriesNames::new();
        if self.dataset() != Dataset::Metrics {
            return Ok(names);
        }
        let builder = self.reader().with_batch_size(ROWS_A_BATCH);
        let first = self.dataset().columns().len();
        let wanted = std::iter::once(0).chain(first..first + SERIES_NAMES.len());
        let mask = ProjectionMask::leaves(builder.parquet_schema(), wanted);
        let reader = builder.with_projection(mask).build();
        let mut last = None;
        for batch in reader.map_err(|error| self.undecodable(error))? {
            let batch = batch.map_err(|error| self.undecodable(error))?;
            let columns = self.dataset().columns().iter().take(1).chain(SERIES_NAMES);
            let columns = columns.zip(batch.columns());
            let values = columns.map(|(column, array)| Values::of(column, array.as_ref()));
            let values: Vec<_> = values.collect::<Result<_>>()?;
            for row in 0..batch.num_rows() {
                let Value::Int4(id) = values[0].get(row) else {
                    continue;
                };
                if last.replace(id) != Some(id) {
                    let [service, metric, unit, labels] =
                        [1, 2, 3, 4].map(|column| match values[column].get(row) {
                            Value::Text(text) => text,
                            _ => "",
                        });
                    names.insert(id, service, metric, unit, labels);
                }
            }
        }
        Ok(names)
    }
}

/// Rows on their way from one archive into another.
struct Sieve<F> {
    keep: F,
    gathering: Gathering,
    digest: ContentDigest,
    row: Vec<u8>,
}

impl ColdStore {
    /// Writes those rows of an archive that `keep` says as an object of another key, which is proved like any other.
    pub async fn rewrite(
        &self,
        from: &Fetched,
        to: ObjectKey,
        keep: impl FnMut(&RowView<'_>) -> bool + Send + 'static,
    ) -> Result<Written> {
        let dataset = from.dataset();
        if to.about().dataset != dataset {
            return Err(Error::internal(
                "an archive is rewritten as one of another dataset",
            ));
        }
        let names = match dataset {
            Dataset::Metrics => Some(Arc::new(from.names().await?)),
            _ => None,
        };
        let mut pull = from.all()?;
        self.store_rows(to, names, async move |batches| {
            let mut sieve = Sieve {
                keep,
                gathering: Gathering::new(dataset, ROWS_A_BATCH),
                digest: ContentDigest::new(dataset),
                row: Vec::new(),
            };
            loop {
                let (kept, rest) = pull.sift(sieve).await?;
                sieve = rest;
                let Some(kept) = kept else {
                    let is_taken = batches.send(Rows::End).await.is_ok();
                    return Ok(is_taken.then_some(sieve.digest));
                };
                if kept.num_rows() > 0 && batches.send(Rows::Batch(kept)).await.is_err() {
                    return Ok(None);
                }
            }
        })
        .await
    }
}

impl Pull {
    /// The next batch with the rows that are kept; no batch behind the last.
    async fn sift<F>(&mut self, mut sieve: Sieve<F>) -> Result<(Option<RecordBatch>, Sieve<F>)>
    where
        F: FnMut(&RowView<'_>) -> bool + Send + 'static,
    {
        let Some(mut reader) = self.reader.take() else {
            return Ok((None, sieve));
        };
        let fetched = self.fetched.clone();
        let (reader, kept, sieve) = blocking(move || {
            let Some(batch) = reader.next() else {
                return Ok((None, None, sieve));
            };
            let batch = batch.map_err(|error| fetched.undecodable(error))?;
            each_row(fetched.dataset(), &batch, |row| {
                if (sieve.keep)(row) {
                    sieve.row.clear();
                    row.encode(&mut sieve.row);
                    sieve.gathering.push(&sieve.row, &mut sieve.digest)?;
                }
                Ok(())
            })?;
            Ok((Some(reader), Some(sieve.gathering.take()?), sieve))
        })
        .await?;
        self.reader = reader;
        Ok((kept, sieve))
    }
}
