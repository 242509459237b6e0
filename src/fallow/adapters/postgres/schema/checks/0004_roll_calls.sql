-- Roll calls. `doc` is the whole call as JSON, with what each node signed; those that found somebody are kept for good.
CREATE TABLE checks.roll_call (
    id bytea PRIMARY KEY,
    at bigint NOT NULL,
    found boolean NOT NULL,
    doc bytea NOT NULL
);
CREATE INDEX roll_call_latest ON checks.roll_call (at DESC, id);

-- How fast each node was alone, when it was last measured.
CREATE TABLE checks.alone (
    node bytea PRIMARY KEY,
    rate bigint NOT NULL,
    at bigint NOT NULL
);
