//! System metrics as a time series.

pub mod sketch;
