-- utxoiq: no-transaction
-- Ended backfill jobs by the time they ended, as retention looks for them.
-- created: 2026-11-23T12:30:10Z
create index concurrently if not exists backfill_jobs_ended_idx on backfill_jobs (ended_at) where ended_at is not null;
