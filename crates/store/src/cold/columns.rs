//! Columns in memory: gathered from COPY, and read field by field.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
    builder::{
        FixedSizeBinaryBuilder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
        TimestampMicrosecondBuilder,
    },
    types::Int32Type,
};
use arrow_schema::{DataType, Field as ArrowField, Schema, TimeUnit};
use bytes::BufMut as _;

use super::{
    Column, ColumnKind, Dataset,
    digest::{ContentDigest, RowKey, sample_key, uuid_key},
};
use crate::{
    db::POSTGRES_EPOCH,
    error::{Error, Result},
};

/// The time zone of all times.
const UTC: &str = "UTC";

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// None.
    Null,
    /// An `int4`.
    Int4(i32),
    /// An `int8`.
    Int8(i64),
    /// A `float8`.
    Float8(f64),
    /// A time, in microseconds since 1970.
    Time(i64),
    /// A text.
    Text(&'a str),
    /// A UUID.
    Uuid([u8; 16]),
}

impl Value<'_> {
    /// Appends the value as in binary COPY: its length, and its bytes.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        match *self {
            Self::Null => into.put_i32(-1),
            Self::Int4(value) => {
                into.put_i32(4);
                into.put_i32(value);
            }
            Self::Int8(value) => {
                into.put_i32(8);
                into.put_i64(value);
            }
            Self::Float8(value) => {
                into.put_i32(8);
                into.put_u64(value.to_bits());
            }
            Self::Time(value) => {
                into.put_i32(8);
                into.put_i64(value.wrapping_sub(POSTGRES_EPOCH));
            }
            Self::Text(value) => {
                into.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                into.put_slice(value.as_bytes());
            }
            Self::Uuid(value) => {
                into.put_i32(16);
                into.put_slice(&value);
            }
        }
    }
}

/// A column of a batch, with its type known.
pub(super) enum Values<'a> {
    Int4(&'a Int32Array),
    Int8(&'a Int64Array),
    Float8(&'a Float64Array),
    Time(&'a TimestampMicrosecondArray),
    Text(&'a StringArray),
    Uuid(&'a FixedSizeBinaryArray),
    Names(&'a Int32Array, &'a StringArray),
}

impl<'a> Values<'a> {
    pub fn of(column: &Column, array: &'a dyn Array) -> Result<Self> {
        let any = array.as_any();
        let found = match column.kind {
            ColumnKind::Int4 => any.downcast_ref().map(Self::Int4),
            ColumnKind::Int8 => any.downcast_ref().map(Self::Int8),
            ColumnKind::Float8 => any.downcast_ref().map(Self::Float8),
            ColumnKind::Time => any.downcast_ref().map(Self::Time),
            ColumnKind::Uuid => any.downcast_ref().map(Self::Uuid),
            ColumnKind::Text => match any.downcast_ref::<DictionaryArray<Int32Type>>() {
                None => any.downcast_ref().map(Self::Text),
                Some(names) => {
                    let texts = names.values().as_any().downcast_ref();
                    texts.map(|texts| Self::Names(names.keys(), texts))
                }
            },
        };
        found.ok_or_else(|| Error::internal(format!("the column {} has another type", column.name)))
    }

    pub fn array(&self) -> &dyn Array {
        match self {
            Self::Int4(array) | Self::Names(array, _) => array,
            Self::Int8(array) => array,
            Self::Float8(array) => array,
            Self::Time(array) => array,
            Self::Text(array) => array,
            Self::Uuid(array) => array,
        }
    }

    pub fn get(&self, row: usize) -> Value<'a> {
        if self.array().is_null(row) {
            return Value::Null;
        }
        match self {
            Self::Int4(array) => Value::Int4(array.value(row)),
            Self::Int8(array) => Value::Int8(array.value(row)),
            Self::Float8(array) => Value::Float8(array.value(row)),
            Self::Time(array) => Value::Time(array.value(row)),
            Self::Text(array) => Value::Text(array.value(row)),
            Self::Uuid(array) => Value::Uuid(array.value(row).try_into().unwrap_or_default()),
            Self::Names(keys, texts) => {
                let at = usize::try_from(keys.value(row)).unwrap_or(usize::MAX);
                if at < texts.len() {
                    Value::Text(texts.value(at))
                } else {
                    Value::Null
                }
            }
        }
    }
}

/// The columns of a dataset in a batch.
pub(super) fn values(dataset: Dataset, batch: &RecordBatch) -> Result<Vec<Values<'_>>> {
    if batch.num_columns() < dataset.columns().len() {
        return Err(Error::internal(format!(
            "a batch lacks columns of {dataset}"
        )));
    }
    let columns = dataset.columns().iter().zip(batch.columns());
    columns
        .map(|(column, array)| Values::of(column, array.as_ref()))
        .collect()
}

/// Adds the rows of a batch to a digest.
pub(super) fn digest_rows(
    digest: &mut ContentDigest,
    dataset: Dataset,
    batch: &RecordBatch,
) -> Result<()> {
    let values = values(dataset, batch)?;
    let mut bytes = Vec::new();
    for row in 0..batch.num_rows() {
        digest.row(row_key(dataset, [values[0].get(row), values[1].get(row)])?)?;
        for (column, values) in dataset.columns().iter().zip(&values) {
            bytes.clear();
            let value = values.get(row);
            value.encode(&mut bytes);
            // Behind its length.
            let is_null = value == Value::Null;
            digest.field(column, (!is_null).then(|| &bytes[4..]));
        }
    }
    Ok(())
}

/// The key of a row, of its first two values.
fn row_key(dataset: Dataset, key: [Value<'_>; 2]) -> Result<RowKey> {
    match key {
        [Value::Int4(series), Value::Time(at)] => Ok(sample_key(series, at)),
        [Value::Int8(id), _] => Ok(RowKey::from(id)),
        [Value::Uuid(id), _] => Ok(uuid_key(id)),
        _ => Err(Error::internal(format!("a row of {dataset} has no key"))),
    }
}

/// The columns of rows that come by COPY.
pub(super) struct Gathering {
    dataset: Dataset,
    builders: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

enum Builder {
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float8(Float64Builder),
    Time(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    Uuid(FixedSizeBinaryBuilder),
}

impl Gathering {
    pub fn new(dataset: Dataset, rows: usize) -> Self {
        let builder = |column: &Column| match column.kind {
            ColumnKind::Int4 => Builder::Int4(Int32Builder::with_capacity(rows)),
            ColumnKind::Int8 => Builder::Int8(Int64Builder::with_capacity(rows)),
            ColumnKind::Float8 => Builder::Float8(Float64Builder::with_capacity(rows)),
            ColumnKind::Time => {
                Builder::Time(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone(UTC))
            }
            ColumnKind::Text => Builder::Text(StringBuilder::new()),
            ColumnKind::Uuid => Builder::Uuid(FixedSizeBinaryBuilder::with_capacity(rows, 16)),
        };
        Self {
            dataset,
            builders: dataset.columns().iter().map(builder).collect(),
            rows: 0,
            bytes: 0,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one row: for each field its length and its bytes. Its bytes are digested as they came.
    pub fn push(&mut self, row: &[u8], digest: &mut ContentDigest) -> Result<()> {
        digest.row(self.key(row)?)?;
        let mut rest = row;
        for (column, builder) in self.dataset.columns().iter().zip(&mut self.builders) {
            let field = take_field(&mut rest)?;
            digest.field(column, field);
            builder.push(decode(column, field)?)?;
        }
        if !rest.is_empty() {
            return Err(wrong_row(self.dataset));
        }
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    fn key(&self, mut row: &[u8]) -> Result<RowKey> {
        let mut key = [Value::Null; 2];
        let columns = self
            .dataset
            .columns()
            .iter()
            .take(self.dataset.key_columns());
        for (value, column) in key.iter_mut().zip(columns) {
            *value = decode(column, take_field(&mut row)?)?;
        }
        row_key(self.dataset, key)
    }

    /// What was gathered; begins anew.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        (self.rows, self.bytes) = (0, 0);
        let schema = Schema::new(fields(self.dataset.columns().iter()));
        RecordBatch::try_new(Arc::new(schema), arrays)
            .map_err(|error| Error::internal("a batch could not be made").with_source(error))
    }
}

impl Builder {
    fn push(&mut self, value: Value<'_>) -> Result<()> {
        match (self, value) {
            (Self::Int4(builder), Value::Int4(value)) => builder.append_value(value),
            (Self::Int8(builder), Value::Int8(value)) => builder.append_value(value),
            (Self::Float8(builder), Value::Float8(value)) => builder.append_value(value),
            (Self::Time(builder), Value::Time(value)) => builder.append_value(value),
            (Self::Text(builder), Value::Text(value)) => builder.append_value(value),
            (Self::Uuid(builder), Value::Uuid(value)) => builder
                .append_value(value)
                .map_err(|error| Error::internal("not a uuid").with_source(error))?,
            (Self::Int4(builder), _) => builder.append_null(),
            (Self::Int8(builder), _) => builder.append_null(),
            (Self::Float8(builder), _) => builder.append_null(),
            (Self::Time(builder), _) => builder.append_null(),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Uuid(builder), _) => builder.append_null(),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Int4(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Float8(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Uuid(builder) => Arc::new(builder.finish()),
        }
    }
}

/// The next field of a row; `None` for null.
fn take_field<'a>(row: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    let (length, rest) = row.split_first_chunk().ok_or_else(damaged)?;
    *row = rest;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        return Ok(None);
    };
    let (field, rest) = row.split_at_checked(length).ok_or_else(damaged)?;
    *row = rest;
    Ok(Some(field))
}

fn decode<'a>(column: &Column, field: Option<&'a [u8]>) -> Result<Value<'a>> {
    let Some(field) = field else {
        return if column.is_nullable {
            Ok(Value::Null)
        } else {
            let message = format!("a row has no {}, which is never null", column.name);
            Err(Error::internal(message))
        };
    };
    let value = match column.kind {
        ColumnKind::Int4 => fixed(field).map(|bytes| Value::Int4(i32::from_be_bytes(bytes))),
        ColumnKind::Int8 => fixed(field).map(|bytes| Value::Int8(i64::from_be_bytes(bytes))),
        ColumnKind::Float8 => fixed(field).map(|bytes| Value::Float8(f64::from_be_bytes(bytes))),
        ColumnKind::Time => fixed(field)
            .and_then(|bytes| i64::from_be_bytes(bytes).checked_add(POSTGRES_EPOCH))
            .map(Value::Time),
        ColumnKind::Uuid => fixed(field).map(Value::Uuid),
        ColumnKind::Text => std::str::from_utf8(field).ok().map(Value::Text),
    };
    value.ok_or_else(|| {
        let message = format!("{} is not of the type that is archived", column.name);
        Error::internal(message)
    })
}

fn fixed<const N: usize>(field: &[u8]) -> Option<[u8; N]> {
    field.try_into().ok()
}

/// Columns as Arrow knows them; the names of series as dictionaries.
pub(super) fn fields<'a>(columns: impl Iterator<Item = &'a Column>) -> Vec<ArrowField> {
    columns
        .map(|column| ArrowField::new(column.name, data_type(column), column.is_nullable))
        .collect()
}

/// All that is in a Parquet file of a dataset.
pub(super) fn stored_schema(dataset: Dataset) -> Schema {
    let names = dataset.names().iter().map(|column| {
        let texts = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        ArrowField::new(column.name, texts, column.is_nullable)
    });
    let columns = fields(dataset.columns().iter());
    Schema::new(columns.into_iter().chain(names).collect::<Vec<_>>())
}

fn data_type(column: &Column) -> DataType {
    match column.kind {
        ColumnKind::Int4 => DataType::Int32,
        ColumnKind::Int8 => DataType::Int64,
        ColumnKind::Float8 => DataType::Float64,
        ColumnKind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ColumnKind::Text => DataType::Utf8,
        ColumnKind::Uuid => DataType::FixedSizeBinary(16),
    }
}

fn wrong_row(dataset: Dataset) -> Error {
    let columns = dataset.columns().len();
    Error::internal(format!(
        "a row of {dataset} has other than {columns} columns"
    ))
}

fn damaged() -> Error {
    Error::internal("what was copied out of the database is not in the form of COPY")
}
