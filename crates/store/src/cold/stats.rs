//! What is told of each column: how many nulls it has, its least and its greatest value.

use std::cmp::Ordering;

use arrow_array::{Array, RecordBatch};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Column, Dataset,
    columns::{Value, Values},
};
use crate::error::Result;

/// A column of an archive in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnStats {
    /// Its name.
    pub name: String,
    /// How many of its values are null.
    pub nulls: u64,
    /// Its least value: a number, an RFC 3339 time, a UUID or a text. None for a column of nulls or of long or personal texts:
    /// a person's erasure must not have to look for it here.
    pub min: Option<String>,
    /// Its greatest value.
    pub max: Option<String>,
}

/// Gathers the figures of all columns.
pub(super) struct Gathered {
    dataset: Dataset,
    rows: u64,
    columns: Vec<Figures>,
}

#[derive(Default, Clone)]
struct Figures {
    nulls: u64,
    bounds: Option<(Bound, Bound)>,
}

#[derive(Clone, PartialEq)]
enum Bound {
    Integer(i64),
    Float(f64),
    Time(i64),
    Text(String),
    Uuid([u8; 16]),
}

impl Gathered {
    pub fn new(dataset: Dataset) -> Self {
        Self {
            dataset,
            rows: 0,
            columns: vec![Figures::default(); dataset.stored_columns().count()],
        }
    }

    /// Counts a batch with all columns of the file in.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = self.dataset.stored_columns().zip(batch.columns());
        for ((column, array), figures) in columns.zip(&mut self.columns) {
            figures.add(column, &Values::of(column, array.as_ref())?);
        }
        self.rows += u64::try_from(batch.num_rows()).unwrap_or_default();
        Ok(())
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn finish(self) -> Vec<ColumnStats> {
        let columns = self.dataset.stored_columns().zip(self.columns);
        columns
            .map(|(column, figures)| ColumnStats {
                name: column.name.to_owned(),
                nulls: figures.nulls,
                min: figures.bounds.as_ref().map(|(min, _)| min.text()),
                max: figures.bounds.as_ref().map(|(_, max)| max.text()),
            })
            .collect()
    }
}

impl Figures {
    fn add(&mut self, column: &Column, values: &Values<'_>) {
        let array = values.array();
        self.nulls += u64::try_from(array.null_count()).unwrap_or_default();
        if !column.has_bounds() || array.null_count() == array.len() {
            return;
        }
        // Numbers are most of what there is, and need no look at each value.
        match values {
            Values::Int4(array) if array.null_count() == 0 => {
                let numbers = array.values();
                self.least_and_greatest(numbers.iter().min(), numbers.iter().max(), |&n| {
                    Bound::Integer(n.into())
                });
            }
            Values::Time(array) if array.null_count() == 0 => {
                let numbers = array.values();
                self.least_and_greatest(numbers.iter().min(), numbers.iter().max(), |&n| {
                    Bound::Time(n)
                });
            }
            Values::Float8(array) if array.null_count() == 0 => {
                let order = |a: &&f64, b: &&f64| a.total_cmp(b);
                let numbers = array.values();
                self.least_and_greatest(
                    numbers.iter().min_by(order),
                    numbers.iter().max_by(order),
                    |&n| Bound::Float(n),
                );
            }
            // Few different ones: those that are in use, each once.
            Values::Names(keys, texts) => {
                let mut used = vec![false; texts.len()];
                for key in keys.iter().flatten() {
                    let at = usize::try_from(key).unwrap_or(usize::MAX);
                    if let Some(used) = used.get_mut(at) {
                        *used = true;
                    }
                }
                for (at, _) in used.iter().enumerate().filter(|(_, used)| **used) {
                    self.bound(Value::Text(texts.value(at)));
                }
            }
            _ => (0..array.len()).for_each(|row| self.bound(values.get(row))),
        }
    }

    fn least_and_greatest<T>(
        &mut self,
        min: Option<T>,
        max: Option<T>,
        bound: impl Fn(T) -> Bound,
    ) {
        for value in [min, max].into_iter().flatten() {
            let value = bound(value);
            self.bound(value.value());
        }
    }

    fn bound(&mut self, value: Value<'_>) {
        let Some((min, max)) = &mut self.bounds else {
            self.bounds = Bound::of(value).map(|bound| (bound.clone(), bound));
            return;
        };
        if compare(value, min.value()) == Ordering::Less {
            *min = Bound::of(value).unwrap_or_else(|| min.clone());
        }
        if compare(value, max.value()) == Ordering::Greater {
            *max = Bound::of(value).unwrap_or_else(|| max.clone());
        }
    }
}

/// The order of the values of one column; null has no place in it.
fn compare(a: Value<'_>, b: Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Int8(a), Value::Int8(b)) | (Value::Time(a), Value::Time(b)) => a.cmp(&b),
        (Value::Int4(a), Value::Int8(b)) => i64::from(a).cmp(&b),
        (Value::Float8(a), Value::Float8(b)) => a.total_cmp(&b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    }
}

impl Bound {
    fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Int4(value) => Self::Integer(value.into()),
            Value::Int8(value) => Self::Integer(value),
            Value::Float8(value) => Self::Float(value),
            Value::Time(value) => Self::Time(value),
            Value::Text(value) => Self::Text(value.to_owned()),
            Value::Uuid(value) => Self::Uuid(value),
        })
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Integer(value) => Value::Int8(*value),
            Self::Float(value) => Value::Float8(*value),
            Self::Time(value) => Value::Time(*value),
            Self::Text(value) => Value::Text(value),
            Self::Uuid(value) => Value::Uuid(*value),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => format!("{value:?}"),
            Self::Time(value) => time_text(*value),
            Self::Text(value) => value.clone(),
            Self::Uuid(value) => Uuid::from_bytes(*value).to_string(),
        }
    }
}

/// A time in RFC 3339 with microseconds; a number where it is beyond what can be written so.
pub(super) fn time_text(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros).map_or_else(
        || micros.to_string(),
        |time| time.to_rfc3339_opts(SecondsFormat::Micros, true),
    )
}
