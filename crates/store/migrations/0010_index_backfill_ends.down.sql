-- utxoiq: no-transaction
drop index concurrently if exists backfill_jobs_ended_idx;
