//! OpenTelemetry.

use super::*;
