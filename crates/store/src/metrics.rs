//! System metrics as a time series.

pub mod chart;
pub mod sketch;
pub mod summary;
