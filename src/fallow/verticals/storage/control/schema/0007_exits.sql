-- Nodes that leave with their disks: which pieces are still to be moved, and what became of the others.

ALTER TABLE storage.node ADD COLUMN exit text NOT NULL DEFAULT '' CHECK (exit IN ('', 'leaving', 'left'));

CREATE TABLE storage.exit (
    alias integer PRIMARY KEY,
    wish bytea NOT NULL,
    began_ms bigint NOT NULL,
    -- The block of storage.segment where the search for its pieces is; none: no search is under way. `found` counts what
    -- the last one found (none: there was none), which is all that there is where it was `sure`: nothing was being stored
    -- on the node when it began.
    block bigint,
    found bigint,
    sure boolean NOT NULL DEFAULT false,
    moved bigint NOT NULL DEFAULT 0,
    moved_bytes bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    failed_bytes bigint NOT NULL DEFAULT 0,
    gone bigint NOT NULL DEFAULT 0,
    unplaced bigint NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    receipt bytea,
    told boolean NOT NULL DEFAULT false
);
CREATE INDEX exit_open ON storage.exit (alias) WHERE NOT told;

CREATE TABLE storage.leaving (
    alias integer NOT NULL,
    segment bytea NOT NULL CHECK (length(segment) = 16),
    due_ms bigint NOT NULL,
    tries smallint NOT NULL DEFAULT 0,
    -- Whether the last try ended at the node that leaves.
    blamed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (alias, segment)
);
CREATE INDEX leaving_due ON storage.leaving (alias, due_ms);

-- What counts on each node, as sums of bytes and of bytes times the time that they came; what it was day by day.

CREATE TABLE storage.lender (
    alias integer PRIMARY KEY,
    bytes numeric(78) NOT NULL DEFAULT 0,
    less numeric(78) NOT NULL DEFAULT 0,
    counted numeric(78) NOT NULL DEFAULT 0
);
CREATE TABLE storage.lender_day (
    alias integer NOT NULL,
    day integer NOT NULL,
    byte_ms numeric(78) NOT NULL DEFAULT 0,
    egress numeric(78) NOT NULL DEFAULT 0,
    repaired numeric(78) NOT NULL DEFAULT 0,
    PRIMARY KEY (alias, day)
);

-- From now on, with what is there now: pieces as they lie in shares of a block and its tag (core/layout.py), without
-- what has not been added up yet.
WITH had AS (
    SELECT payload, CASE profile WHEN 'lab' THEN 4 WHEN 'small' THEN 16 ELSE 29 END AS needed, nodes
    FROM storage.segment
    UNION ALL
    SELECT payload, CASE profile WHEN 'lab' THEN 4 WHEN 'small' THEN 16 ELSE 29 END, nodes
    FROM storage.dropped WHERE stored
), sealed AS (
    SELECT nodes, needed, payload + (payload + 65519) / 65520 * 16 AS bytes FROM had
), pieces AS (
    SELECT nodes, bytes / (needed * 65536) * 65536 + (bytes % (needed * 65536) + needed - 1) / needed AS bytes FROM sealed
), moved AS (
    SELECT unnest(nodes) AS alias, bytes FROM pieces
    UNION ALL SELECT unnest(nodes), -bytes FROM storage.change
)
INSERT INTO storage.lender (alias, bytes, less)
SELECT alias, sum(bytes), sum(bytes) * floor(extract(epoch FROM now()) * 1000)::numeric FROM moved
WHERE alias <> 0 GROUP BY alias;
