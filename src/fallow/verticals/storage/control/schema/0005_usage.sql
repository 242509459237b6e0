-- Payload beside the bytes of pieces: what others than this network charge for. A change that brings or takes a segment
-- says how much of it; one that moves pieces alone has none.
ALTER TABLE storage.change ADD COLUMN payload bigint NOT NULL DEFAULT 0;
ALTER TABLE storage.payer
    ADD COLUMN payload numeric(78) NOT NULL DEFAULT 0,
    ADD COLUMN payload_less numeric(78) NOT NULL DEFAULT 0,
    ADD COLUMN payload_counted numeric(78) NOT NULL DEFAULT 0;
ALTER TABLE storage.day ADD COLUMN payload_ms numeric(78) NOT NULL DEFAULT 0;

-- What was stored before this table: from now on it counts.
UPDATE storage.payer p SET payload = s.payload, payload_less = s.payload * s.now, payload_counted = 0
FROM (SELECT bucket, sum(payload) AS payload, floor(extract(epoch FROM now()) * 1000)::numeric AS now
      FROM (SELECT bucket, payload FROM storage.segment
            UNION ALL SELECT bucket, payload FROM storage.dropped WHERE stored) all_ GROUP BY bucket) s
WHERE p.bucket = s.bucket;

-- Buckets with a document of a gateway that asks for work now and then (rules of a lifecycle), and when it is due again.
CREATE TABLE storage.due (
    bucket_id bigint NOT NULL REFERENCES storage.bucket ON DELETE CASCADE,
    name text NOT NULL,
    due_ms bigint NOT NULL,
    PRIMARY KEY (bucket_id, name)
);
CREATE INDEX setting_name ON storage.setting (name, bucket_id);

CREATE INDEX upload_made ON storage.upload (made_ms);
