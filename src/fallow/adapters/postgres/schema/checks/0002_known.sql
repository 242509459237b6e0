-- Items whose results are known; canaries are made of them. `doc` is the whole struct as JSON.
CREATE TABLE checks.known (
    job text NOT NULL,
    item integer NOT NULL,
    at bigint NOT NULL,
    doc bytea NOT NULL,
    PRIMARY KEY (job, item)
);
