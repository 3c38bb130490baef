-- Service tokens: who may call the API, and what each may do.
--
-- Only a SHA-256 of the secret is kept. The secret has 256 random bits, so that there is nothing to guess and a slow
-- hash would only slow down the callers. Names are unique among tokens that are not revoked: rotating a token means
-- making a second one, moving the callers, and revoking the first.
CREATE TABLE service_tokens (
    id           uuid        NOT NULL CONSTRAINT service_tokens_pkey PRIMARY KEY,
    name         text        NOT NULL CONSTRAINT service_tokens_name_length CHECK (char_length(name) BETWEEN 1 AND 100),
    -- The user id under which the token's owner acts when it acts for itself.
    subject      text        NOT NULL CONSTRAINT service_tokens_subject_length CHECK (char_length(subject) BETWEEN 1 AND 100),
    secret_hash  bytea       NOT NULL CONSTRAINT service_tokens_secret_hash_is_sha256 CHECK (octet_length(secret_hash) = 32),
    scopes       text[]      NOT NULL
        CONSTRAINT service_tokens_scopes_not_empty CHECK (cardinality(scopes) > 0 AND array_position(scopes, NULL) IS NULL),
    created_at   timestamptz NOT NULL,
    created_by   text        NOT NULL CONSTRAINT service_tokens_created_by_length CHECK (char_length(created_by) BETWEEN 1 AND 100),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CONSTRAINT service_tokens_expires_after_creation CHECK (expires_at > created_at)
);

CREATE UNIQUE INDEX service_tokens_name_is_unique ON service_tokens (name) WHERE revoked_at IS NULL;

COMMENT ON TABLE service_tokens IS 'Service tokens with their scopes; only the hash of a secret is stored.';
COMMENT ON COLUMN service_tokens.last_used_at IS 'To the minute: written at most once a minute for each token.';

-- The serving role checks tokens and notes their use. It can neither make one, nor widen one, nor bring one back.
GRANT SELECT ON service_tokens TO utxoiq_app;
GRANT UPDATE (last_used_at) ON service_tokens TO utxoiq_app;

-- Making and revoking is administration.
GRANT SELECT, INSERT ON service_tokens TO utxoiq_migrator;
GRANT UPDATE (revoked_at) ON service_tokens TO utxoiq_migrator;
