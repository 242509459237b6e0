CREATE SCHEMA registry;

CREATE TABLE registry.account (
    account bytea PRIMARY KEY CHECK (length(account) = 20),
    custody_index bigint UNIQUE,
    created_at bigint NOT NULL
);

CREATE SEQUENCE registry.custody_index AS bigint MINVALUE 0 START 0;

CREATE TABLE registry.node (
    node bytea PRIMARY KEY CHECK (length(node) = 32),
    account bytea NOT NULL REFERENCES registry.account,
    label text NOT NULL,
    enrolled_at bigint NOT NULL,
    banned_reason text NOT NULL DEFAULT ''
);

CREATE TABLE registry.join_token (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    uses_left integer NOT NULL CHECK (uses_left >= 0),
    expires_at bigint NOT NULL
);

CREATE TABLE registry.api_key (
    key_id text PRIMARY KEY,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    account bytea NOT NULL REFERENCES registry.account,
    scopes text[] NOT NULL,
    label text NOT NULL,
    revoked_at bigint
);
