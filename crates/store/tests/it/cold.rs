//! Archives in object storage: what is written comes back, and nothing else is taken for it.

mod support;
mod written;
