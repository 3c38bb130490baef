insert into service_tokens (id, name, subject, secret_hash, scopes, created_at, created_by, expires_at, last_used_at, revoked_at)
values (
    '3f0c9a52-7d4e-4b7a-9a55-0d1c5f0e8a11', 'ingest', 'ingest', sha256('a secret'), array['backfill:read', 'backfill:write'],
    '2025-03-01 09:00:00.123456+00', 'operator', '2026-03-01 09:00:00+00', '2025-03-02 00:00:00+00', null
);
