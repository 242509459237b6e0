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
