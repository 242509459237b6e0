-- How far the network's chain was read: what was up to there is in the ledger and in the outbox.
CREATE TABLE settle.chain_read (
    chain bigint PRIMARY KEY,
    next bigint NOT NULL
);
