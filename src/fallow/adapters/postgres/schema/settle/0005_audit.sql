-- What the latest audits of the ledger have found.
CREATE TABLE settle.audit (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_at bigint NOT NULL,
    doc bytea NOT NULL
);
