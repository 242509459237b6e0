-- What re-runs of work that nobody compares have shown: two nodes gave the same bytes, or did not.
CREATE TABLE checks.rerun (
    lease bytea PRIMARY KEY,
    account bytea NOT NULL,
    program text NOT NULL,
    nodes bytea[] NOT NULL,
    owners bytea[] NOT NULL,
    same boolean NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX rerun_by_time ON checks.rerun (at, lease);
