-- From which network clients come that gateways carry to the bus, for the minute in which the bus asks about them.
-- Nothing is lost with it: a client that is asked about in vain connects again.
CREATE UNLOGGED TABLE registry.tunnel (
    nonce text PRIMARY KEY,
    network text NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX ON registry.tunnel (at);
