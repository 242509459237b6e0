-- Where epochs have ended. No batch is written into one that is here.
CREATE TABLE ingest.epoch_end (
    epoch bigint PRIMARY KEY,
    from_ms bigint NOT NULL,
    until_ms bigint NOT NULL CHECK (until_ms >= from_ms)
);

CREATE INDEX batch_epoch ON ingest.batch (epoch, pos);
