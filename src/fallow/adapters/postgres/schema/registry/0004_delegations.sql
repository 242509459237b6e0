-- Keys that sign orders and receipts for accounts, until they expire or are revoked.
CREATE TABLE registry.delegation (
    key bytea PRIMARY KEY CHECK (length(key) = 32),
    account bytea NOT NULL REFERENCES registry.account,
    issued_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    signature bytea NOT NULL,
    revoked_at bigint
);
CREATE INDEX delegation_by_account ON registry.delegation (account, issued_at DESC);

-- The exact bytes that were signed to order.
CREATE TABLE registry.signed_order (
    account bytea NOT NULL,
    id text NOT NULL,
    key bytea NOT NULL REFERENCES registry.delegation,
    signature bytea NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (account, id)
);

-- One signature over the root of the tree over many receipts' leaves.
CREATE TABLE registry.receipt_batch (
    signature bytea PRIMARY KEY,
    account bytea NOT NULL,
    key bytea NOT NULL REFERENCES registry.delegation,
    leaves bytea[] NOT NULL
);

CREATE TABLE registry.receipt (
    lease bytea PRIMARY KEY,
    signature bytea NOT NULL REFERENCES registry.receipt_batch,
    place integer NOT NULL
);
