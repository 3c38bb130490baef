-- utxoiq: backward-compatible
-- Service tokens get a second secret while their callers move to it, and the tier of their rate limit.
-- created: 2026-11-23T18:50:00Z
--
-- A token keeps its id, name, scopes and figures when its secret is replaced: until previous_until the secret that it had
-- before works as well, and previous_used_at tells whether anybody still uses that one.
alter table service_tokens
    add column rotated_at       timestamptz,
    add column previous_hash    bytea,
    add column previous_until   timestamptz,
    add column previous_used_at timestamptz,
    add column rate_tier        text;

-- utxoiq: allow constraint-not-valid because the table has a row for each service, and the new columns are empty
alter table service_tokens
    add constraint service_tokens_previous_hash_is_sha256 check (octet_length(previous_hash) = 32),
    add constraint service_tokens_rotation_is_whole check (num_nulls(rotated_at, previous_hash, previous_until) in (0, 3)),
    add constraint service_tokens_previous_ends_after_rotation check (previous_until >= rotated_at),
    add constraint service_tokens_rate_tier_length check (char_length(rate_tier) between 1 and 50);

comment on column service_tokens.previous_until is 'Until then the secret that the token had before works, too.';
comment on column service_tokens.rate_tier is 'The tier of its rate limit, as the configuration names them; null: that of service tokens.';

-- The serving role notes the use of either secret, and can change neither.
grant update (previous_used_at) on service_tokens to utxoiq_app;
grant update (secret_hash, rotated_at, previous_hash, previous_until, previous_used_at, rate_tier) on service_tokens to utxoiq_migrator;
