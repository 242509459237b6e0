-- The last check of what is known of pieces against what nodes have, and who does it: where he is not heard of for a
-- while, another begins it anew.
CREATE TABLE storage.inspection (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    state text NOT NULL CHECK (state IN ('asked', 'running', 'done')),
    repair boolean NOT NULL,
    owner bytea NOT NULL,
    asked_ms bigint NOT NULL,
    updated_ms bigint NOT NULL,
    segments bigint NOT NULL
);
CREATE TABLE storage.inspected (
    alias integer PRIMARY KEY,
    report bytea NOT NULL
);

-- Which course of things this database is of: PostgreSQL's number of it, and of its timeline, which is another one behind
-- each restore from a backup. `since_ms` is when that was seen; 0: it is the first.
CREATE TABLE storage.timeline (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    name text NOT NULL,
    since_ms bigint NOT NULL
);

-- Nodes that are still to be asked, since then, for what they were told to delete on another course.
CREATE TABLE storage.recovering (
    alias integer PRIMARY KEY
);
