-- A wallet opens sessions by signing a text; each text has a nonce that is used once.
ALTER TABLE registry.session
    ALTER COLUMN key_id DROP NOT NULL,
    ADD COLUMN wallet bytea CHECK (length(wallet) = 20),
    ADD CHECK (num_nonnulls(key_id, wallet) = 1);
CREATE INDEX session_by_wallet ON registry.session (wallet, opened_at) WHERE wallet IS NOT NULL;
CREATE TABLE registry.challenge (
    nonce bytea PRIMARY KEY CHECK (length(nonce) = 16),
    wallet bytea NOT NULL CHECK (length(wallet) = 20),
    asked_at bigint NOT NULL
);
CREATE INDEX challenge_by_time ON registry.challenge (asked_at);
