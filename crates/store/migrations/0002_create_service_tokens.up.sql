-- Service tokens: who may call the API, and what each may do.
-- created: 2026-11-23T03:20:00Z
--
-- Only a SHA-256 of the secret is kept. The secret has 256 random bits, so that there is nothing to guess and a slow
-- hash would only slow down the callers. Names are unique among tokens that are not revoked: rotating a token means
-- making a second one, moving the callers, and revoking the first.
create table service_tokens (
    id           uuid        not null,
    name         text        not null,
    -- The user id under which the token's owner acts when it acts for itself.
    subject      text        not null,
    secret_hash  bytea       not null,
    scopes       text[]      not null,
    created_at   timestamptz not null,
    created_by   text        not null,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    constraint service_tokens_pkey primary key (id),
    constraint service_tokens_name_length check (char_length(name) between 1 and 100),
    constraint service_tokens_subject_length check (char_length(subject) between 1 and 100),
    constraint service_tokens_secret_hash_is_sha256 check (octet_length(secret_hash) = 32),
    constraint service_tokens_scopes_not_empty check (cardinality(scopes) > 0 and array_position(scopes, null) is null),
    constraint service_tokens_created_by_length check (char_length(created_by) between 1 and 100),
    constraint service_tokens_expires_after_creation check (expires_at > created_at)
);

create unique index service_tokens_name_is_unique on service_tokens (name) where revoked_at is null;

comment on table service_tokens is 'Service tokens with their scopes; only the hash of a secret is stored.';
comment on column service_tokens.last_used_at is 'To the minute: written at most once a minute for each token.';

-- The serving role checks tokens and notes their use. It can neither make one, nor widen one, nor bring one back.
grant select on service_tokens to utxoiq_app;
grant update (last_used_at) on service_tokens to utxoiq_app;

-- Making and revoking is administration.
grant select, insert on service_tokens to utxoiq_migrator;
grant update (revoked_at) on service_tokens to utxoiq_migrator;
