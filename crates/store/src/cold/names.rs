//! The names of series, which stand beside their samples in an archive, so that it can be read without the database.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};

use super::{Dataset, columns::stored_schema};
use crate::error::{Error, Result};

/// What each series is called.
#[derive(Debug, Clone, Default)]
pub struct SeriesNames(HashMap<i32, [String; 4]>);

impl SeriesNames {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what a series is called; its labels are a JSON object.
    pub fn insert(
        &mut self,
        series_id: i32,
        service_name: impl Into<String>,
        metric_type: impl Into<String>,
        unit: impl Into<String>,
        labels: impl Into<String>,
    ) {
        let names = [
            service_name.into(),
            metric_type.into(),
            unit.into(),
            labels.into(),
        ];
        self.0.insert(series_id, names);
    }

    /// What a series is called: service, type, unit and labels.
    pub fn get(&self, series_id: i32) -> Option<&[String; 4]> {
        self.0.get(&series_id)
    }
}

/// A batch of samples with the names beside them. Samples of a series stand together, so that each name is there once.
pub(super) fn with_names(batch: &RecordBatch, names: &SeriesNames) -> Result<RecordBatch> {
    let ids = batch.column(0).as_any().downcast_ref::<Int32Array>();
    let ids = ids.ok_or_else(|| Error::internal("samples without their series"))?;
    let mut texts: [Vec<&str>; 4] = Default::default();
    let mut keys: Vec<i32> = Vec::with_capacity(ids.len());
    let (mut last, mut count) = (None, 0);
    for &id in ids.values() {
        if last != Some(id) {
            let named = names
                .get(id)
                .ok_or_else(|| Error::internal(format!("the series {id} has no name")))?;
            for (texts, name) in texts.iter_mut().zip(named) {
                texts.push(name);
            }
            last = Some(id);
            count += 1;
        }
        keys.push(count - 1);
    }
    let keys = Int32Array::from(keys);
    let mut columns = batch.columns().to_vec();
    for texts in texts {
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        columns.push(Arc::new(
            DictionaryArray::try_new(keys.clone(), texts).map_err(unmade)?,
        ));
    }
    RecordBatch::try_new(Arc::new(stored_schema(Dataset::Metrics)), columns).map_err(unmade)
}

fn unmade(error: arrow_schema::ArrowError) -> Error {
    Error::internal("a batch with names could not be made").with_source(error)
}
