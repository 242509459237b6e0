-- Whom a private value is about: an account (20 bytes) or a node (32 bytes); of older ones that is not known.
ALTER TABLE ingest.opening ADD COLUMN subject bytea NOT NULL DEFAULT '';
CREATE INDEX opening_subject ON ingest.opening (subject);

-- Of whom no private value is kept any more.
CREATE TABLE ingest.erased (
    subject bytea PRIMARY KEY
);
