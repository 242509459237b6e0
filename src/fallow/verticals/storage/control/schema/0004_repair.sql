-- How far the search for segments that need repair has come: the next block of storage.segment, or null where none is
-- under way. `lost` are the nodes that were lost when it began. Whoever goes on with it holds the row.
CREATE TABLE storage.scan (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    block bigint,
    began_ms bigint NOT NULL DEFAULT 0,
    ended_ms bigint NOT NULL DEFAULT 0,
    lost integer[] NOT NULL DEFAULT '{}'
);
INSERT INTO storage.scan DEFAULT VALUES;

-- Segments that need repair, those with the fewest expected `days` to their loss first. Who repairs one sets `due_ms`
-- forward first; `reason` is why the last try did not do it.
CREATE TABLE storage.repair (
    segment bytea PRIMARY KEY CHECK (length(segment) = 16),
    healthy smallint NOT NULL,
    days double precision NOT NULL,
    found_ms bigint NOT NULL,
    due_ms bigint NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX repair_days ON storage.repair (days);
