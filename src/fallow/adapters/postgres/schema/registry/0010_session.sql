-- Who is signed in at the console: each session by the SHA-256 of its secret, opened with an API key and gone with it.
CREATE TABLE registry.session (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    key_id text NOT NULL REFERENCES registry.api_key,
    opened_at bigint NOT NULL,
    seen_at bigint NOT NULL
);
CREATE INDEX session_by_key ON registry.session (key_id, opened_at);
CREATE INDEX session_by_opening ON registry.session (opened_at);
CREATE INDEX api_key_by_account ON registry.api_key (account);
