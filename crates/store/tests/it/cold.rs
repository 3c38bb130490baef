//! Archives in object storage: what is written comes back, and nothing else is taken for it.

mod cache;
mod clients;
mod faults;
mod memory;
pub mod python;
mod samples;
mod support;
mod written;
