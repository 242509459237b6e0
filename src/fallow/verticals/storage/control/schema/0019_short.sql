-- Segments that were stored, or repaired, with fewer pieces than they are coded into, until they have all of them: as
-- storage.repair, but taken only where nothing there is due.
CREATE TABLE storage.short (
    segment bytea PRIMARY KEY CHECK (length(segment) = 16),
    days double precision NOT NULL,
    due_ms bigint NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX short_days ON storage.short (days);
INSERT INTO storage.short (segment, days, due_ms) SELECT id, 0, 0 FROM storage.segment WHERE 0 = ANY (nodes);
