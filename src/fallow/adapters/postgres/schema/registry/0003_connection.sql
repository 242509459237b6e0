-- From where each node connected last, as the network saw it: the block of addresses, never the address.
CREATE TABLE registry.connection (
    node bytea PRIMARY KEY REFERENCES registry.node,
    network text NOT NULL,
    seen_at bigint NOT NULL
);
