revoke update (secret_hash) on service_tokens from utxoiq_migrator;
alter table service_tokens
    drop column rate_tier,
    drop column previous_used_at,
    drop column previous_until,
    drop column previous_hash,
    drop column rotated_at;
