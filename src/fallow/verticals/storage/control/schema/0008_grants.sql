-- Grants that their owner has ended, by the id of the one link of their chain: what was made of it ends with it.
CREATE TABLE storage.revoked_grant (
    account bytea NOT NULL CHECK (length(account) = 20),
    id bytea NOT NULL CHECK (length(id) = 16),
    revoked_ms bigint NOT NULL,
    PRIMARY KEY (account, id)
);
