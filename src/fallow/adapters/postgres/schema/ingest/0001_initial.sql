CREATE SCHEMA ingest;

-- The exact bytes that nodes signed. Rows are only ever added; a trigger refuses everything else.
CREATE TABLE ingest.batch (
    pos bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node bytea NOT NULL,
    boot bigint NOT NULL,
    seq bigint NOT NULL,
    records integer NOT NULL CHECK (records > 0),
    epoch bigint NOT NULL,
    root bytea NOT NULL,
    data bytea NOT NULL,
    promise bytea NOT NULL,
    received_at bigint NOT NULL,
    UNIQUE (node, boot, seq)
);

CREATE FUNCTION ingest.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'batches are append-only';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ingest.batch
    EXECUTE FUNCTION ingest.refuse_change();

-- Boot and next sequence number that each node must send.
CREATE TABLE ingest.expected (
    node bytea PRIMARY KEY,
    boot bigint NOT NULL,
    seq bigint NOT NULL
);

-- Private values beside their records. A row can be erased; the record's commitment stays.
CREATE TABLE ingest.opening (
    record bytea NOT NULL,
    field text NOT NULL,
    salt bytea NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (record, field)
);
