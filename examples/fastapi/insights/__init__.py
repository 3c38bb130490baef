"""A backend that keeps its feedback, its backfills and its metrics in utxoIQ Store."""
