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
