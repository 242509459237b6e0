-- What was begun and given up, by whom, until it has gone from all nodes: by the hour, so that there are few rows.
CREATE TABLE storage.abandoned (
    account bytea NOT NULL CHECK (length(account) = 20),
    grant_id bytea NOT NULL,
    until_ms bigint NOT NULL,
    bytes numeric(78) NOT NULL,
    PRIMARY KEY (account, until_ms, grant_id)
);
CREATE INDEX abandoned_until ON storage.abandoned (until_ms);

-- The one link of the chain of grants by which it was asked for; empty: its owner asked.
ALTER TABLE storage.begun ADD COLUMN grant_id bytea NOT NULL DEFAULT '';
ALTER TABLE storage.upload ADD COLUMN grant_id bytea NOT NULL DEFAULT '';

-- Whether the last try ended at the node that leaves; none: it was not tried. How long the network has waited for pieces
-- of a node that leaves, all together.
ALTER TABLE storage.leaving ALTER COLUMN blamed DROP NOT NULL, ALTER COLUMN blamed DROP DEFAULT;
ALTER TABLE storage.exit ADD COLUMN read_ms bigint NOT NULL DEFAULT 0;

-- Nodes' days are forgotten in their order.
CREATE INDEX lender_day_day ON storage.lender_day (day);

-- One search of all segments, in the order of their ids, is for all nodes that leave and wait for one: `after` is how far
-- it has come; none: no search is under way. Whoever goes on with it holds the row.
CREATE TABLE storage.exit_search (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    after bytea
);
INSERT INTO storage.exit_search DEFAULT VALUES;
ALTER TABLE storage.exit ADD COLUMN searching boolean NOT NULL DEFAULT false;
UPDATE storage.exit SET found = NULL WHERE block IS NOT NULL;
ALTER TABLE storage.exit DROP COLUMN block;
