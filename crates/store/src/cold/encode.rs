//! Rows into Parquet, on a thread that may block.
//!
//! zstd at level 3; numbers and times by their differences (DELTA_BINARY_PACKED), values by their bytes' places
//! (BYTE_STREAM_SPLIT), texts that repeat by a dictionary; groups of 131,072 rows, pages of 8,192, each with its least and
//! greatest value in the page index; the columns of the key declared as sorted.

use std::{io, sync::Arc};

use arrow_array::RecordBatch;
use bytes::{Bytes, BytesMut};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::{ColumnPath, SchemaDescriptor, Type},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    Column, ColumnStats, Dataset, ObjectKey,
    columns::stored_schema,
    digest::hex,
    names::{SeriesNames, with_names},
    stats::Gathered,
    upload::Part,
};
use crate::error::{Error, Result};

/// Rows of a row group: what is skipped or read at once, and what is in memory while it is written.
const ROWS_A_GROUP: usize = 131_072;

/// The most bytes of a row group, for rows that are long.
const BYTES_A_GROUP: usize = 48 * 1024 * 1024;

/// Rows of a page: the least that is decoded for one sample.
const ROWS_A_PAGE: usize = 8_192;

/// How much is uploaded at once. The least that every store takes for a part is 5 MiB.
const BYTES_A_PART: usize = 8 * 1024 * 1024;

/// Rows on their way to the thread that encodes them.
pub(super) enum Rows {
    Batch(RecordBatch),
    /// There are no more. A channel that just ends means that whoever reads the rows has failed.
    End,
}

/// What was encoded.
pub(super) struct Encoded {
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    pub columns: Vec<ColumnStats>,
}

/// Encodes rows until their end, handing the bytes on part by part. `None` where either side has gone: its own error says why.
pub(super) fn encode(
    key: ObjectKey,
    names: Option<&SeriesNames>,
    mut rows: mpsc::Receiver<Rows>,
    parts: mpsc::Sender<Part>,
) -> Result<Option<Encoded>> {
    let dataset = key.about().dataset;
    let mut stats = Gathered::new(dataset);
    let mut writer = writer(key, Sink::new(parts))?;
    loop {
        let batch = match rows.blocking_recv() {
            None => return Ok(None),
            Some(Rows::End) => break,
            Some(Rows::Batch(batch)) => batch,
        };
        let batch = match (dataset, names) {
            (Dataset::Metrics, Some(names)) => with_names(&batch, names)?,
            (Dataset::Metrics, None) => {
                return Err(Error::internal(
                    "samples are archived with the names of their series",
                ));
            }
            _ => batch,
        };
        stats.add(&batch)?;
        if let Err(error) = writer.write(&batch) {
            return stopped(&writer, error);
        }
    }
    if let Err(error) = writer.finish() {
        return stopped(&writer, error);
    }
    let rows = stats.rows();
    let Ok((bytes, sha256)) = writer.inner_mut().finish() else {
        return Ok(None);
    };
    Ok(Some(Encoded {
        rows,
        bytes,
        sha256,
        columns: stats.finish(),
    }))
}

fn stopped(
    writer: &ArrowWriter<Sink>,
    error: parquet::errors::ParquetError,
) -> Result<Option<Encoded>> {
    if writer.inner().parts.is_closed() {
        return Ok(None);
    }
    Err(Error::internal("rows could not be encoded").with_source(error))
}

/// Where the encoder writes: the bytes are hashed as they pass, and handed on in parts.
struct Sink {
    parts: mpsc::Sender<Part>,
    pending: BytesMut,
    hash: Sha256,
    bytes: u64,
}

impl Sink {
    fn new(parts: mpsc::Sender<Part>) -> Self {
        Self {
            parts,
            pending: BytesMut::new(),
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn send(&mut self, part: Part) -> io::Result<()> {
        self.parts
            .blocking_send(part)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn finish(&mut self) -> io::Result<(u64, String)> {
        let last: Bytes = self.pending.split().freeze();
        self.send(Part::Last(last))?;
        Ok((self.bytes, hex(&self.hash.finalize_reset())))
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BYTES_A_PART - self.pending.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.pending.extend_from_slice(taken);
        self.hash.update(taken);
        self.bytes += u64::try_from(taken.len()).unwrap_or_default();
        if self.pending.len() == BYTES_A_PART {
            let part = self.pending.split().freeze();
            self.send(Part::More(part))?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn writer(key: ObjectKey, sink: Sink) -> Result<ArrowWriter<Sink>> {
    let dataset = key.about().dataset;
    let options = ArrowWriterOptions::new()
        .with_properties(properties(key)?)
        .with_skip_arrow_metadata(true)
        .with_parquet_schema(parquet_schema(dataset)?);
    ArrowWriter::try_new_with_options(sink, Arc::new(stored_schema(dataset)), options)
        .map_err(unmade)
}

fn properties(key: ObjectKey) -> Result<WriterProperties> {
    let about = key.about();
    let own = [
        ("dataset", about.dataset.name().to_owned()),
        ("day", about.day.to_string()),
        ("part", about.part.to_string()),
        ("archive_id", about.id.to_string()),
    ];
    let own = own
        .into_iter()
        .map(|(name, value)| KeyValue::new(format!("utxoiq.{name}"), value));
    let sorted = (0_i32..)
        .take(about.dataset.key_columns())
        .map(|column_idx| SortingColumn {
            column_idx,
            descending: false,
            nulls_first: false,
        });
    let mut properties = WriterProperties::builder()
        .set_created_by(super::PROGRAM.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(unmade)?))
        .set_max_row_group_row_count(Some(ROWS_A_GROUP))
        .set_max_row_group_bytes(Some(BYTES_A_GROUP))
        .set_data_page_row_count_limit(ROWS_A_PAGE)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorted.collect()))
        .set_key_value_metadata(Some(own.collect()));
    for column in about.dataset.stored_columns() {
        let path = ColumnPath::from(column.name);
        if let Some(encoding) = column.encoding() {
            properties = properties
                .set_column_encoding(path.clone(), encoding)
                .set_column_dictionary_enabled(path.clone(), false);
        }
        if column.has_bloom_filter() {
            properties = properties.set_column_bloom_filter_enabled(path, true);
        }
    }
    Ok(properties.build())
}

/// The file's schema, which no program's own types can blur.
fn parquet_schema(dataset: Dataset) -> Result<SchemaDescriptor> {
    let column = |column: &Column| -> Result<Arc<Type>> {
        Type::primitive_type_builder(column.name, column.physical())
            .with_logical_type(column.logical())
            .with_repetition(column.repetition())
            .with_length(
                if column.physical() == parquet::basic::Type::FIXED_LEN_BYTE_ARRAY {
                    16
                } else {
                    -1
                },
            )
            .build()
            .map(Arc::new)
            .map_err(unmade)
    };
    let columns = dataset.stored_columns().map(column);
    let root = Type::group_type_builder("schema")
        .with_fields(columns.collect::<Result<_>>()?)
        .build()
        .map_err(unmade)?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn unmade(error: parquet::errors::ParquetError) -> Error {
    Error::internal("a Parquet file could not be begun").with_source(error)
}
