//! System metrics as a time series.

pub mod chart;
pub mod degradation;
pub mod sketch;
pub mod summary;
