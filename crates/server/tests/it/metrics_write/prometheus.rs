//! Prometheus.

use super::*;
