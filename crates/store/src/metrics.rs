//! System metrics as a time series (C3).

mod sample;

pub use sample::{
    Accept, Batch, MAX_METRIC_TYPE, MAX_SERVICE_NAME, MAX_UNIT, MAX_VALUE, NewSample, Outcome,
    Reason, Recorded, RecordedSample, Rejection, RequestKey, SeriesName, Tally, micros,
};

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};

/// The handle: `store.metrics()`.
#[derive(Debug, Clone, Copy)]
pub struct Metrics<'a>(std::marker::PhantomData<&'a ()>);

impl Metrics<'_> {
    /// The handle.
    pub fn new() -> Self {
        Self(std::marker::PhantomData)
    }

    /// Records samples; returns when what was accepted is committed.
    pub async fn record(
        &self,
        _: Batch,
        _: Accept,
        _: Option<RequestKey>,
        _: DateTime<Utc>,
    ) -> Result<Recorded> {
        Err(Error::internal("not built yet"))
    }
}
