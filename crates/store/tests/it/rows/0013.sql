update service_tokens
set rotated_at = '2025-02-01 00:00Z', previous_hash = decode(repeat('cd', 32), 'hex'), previous_until = '2025-02-02 00:00Z',
    previous_used_at = '2025-02-01 12:00Z', rate_tier = 'pro';
