//! Whether an archive has rows of somebody: asked of the column alone, and only where the file does not exclude it.

use parquet::arrow::ProjectionMask;

use super::{Dataset, Fetched, Value, columns::Values, fetched::blocking, write::ROWS_A_BATCH};
use crate::error::{Error, Result};

impl Fetched {
    /// How many rows have this very text in a column. Row groups whose bloom filter says that it is not there are passed over.
    pub async fn count_text(&self, column: &'static str, wanted: &str) -> Result<u64> {
        let (fetched, wanted) = (self.clone(), wanted.to_owned());
        blocking(move || fetched.count_text_in(column, &wanted)).await
    }

    fn count_text_in(&self, column: &str, wanted: &str) -> Result<u64> {
        let dataset: Dataset = self.dataset();
        let columns = dataset.columns();
        let at = columns.iter().position(|known| known.name == column);
        let at = at.ok_or_else(|| Error::internal(format!("{dataset} has no column {column}")))?;
        let builder = self.reader().with_batch_size(ROWS_A_BATCH);
        let mut groups = Vec::new();
        for group in 0..self.metadata().metadata().num_row_groups() {
            let filter = builder.get_row_group_column_bloom_filter(group, at);
            let filter = filter.map_err(|error| self.undecodable(error))?;
            if filter.is_none_or(|filter| filter.check(&wanted)) {
                groups.push(group);
            }
        }
        if groups.is_empty() {
            return Ok(0);
        }
        let mask = ProjectionMask::leaves(builder.parquet_schema(), [at]);
        let reader = builder
            .with_projection(mask)
            .with_row_groups(groups)
            .build();
        let mut found = 0;
        for batch in reader.map_err(|error| self.undecodable(error))? {
            let batch = batch.map_err(|error| self.undecodable(error))?;
            let values = Values::of(&columns[at], batch.column(0).as_ref())?;
            let is_it = |row| matches!(values.get(row), Value::Text(text) if text == wanted);
            let matching = (0..batch.num_rows()).filter(|row| is_it(*row)).count();
            found += u64::try_from(matching).unwrap_or_default();
        }
        Ok(found)
    }
}
