CREATE SCHEMA checks;

-- One row an epoch of draws. The commitment is written an epoch ahead, and never changed.
CREATE TABLE checks.seed (
    number bigint PRIMARY KEY,
    commitment bytea NOT NULL,
    opened_at bigint,
    closed_at bigint
);

CREATE TABLE checks.draw (
    number bigint NOT NULL REFERENCES checks.seed,
    lease bytea NOT NULL,
    purpose text NOT NULL,
    node bytea NOT NULL,
    at bigint NOT NULL,
    one_in bigint NOT NULL,
    hit boolean NOT NULL,
    PRIMARY KEY (number, lease, purpose)
);
