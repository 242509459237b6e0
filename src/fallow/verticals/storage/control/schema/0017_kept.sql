-- What is kept of a bucket in this database and paid for by no bytes on nodes: see control/tally.py, which counts the same.
ALTER TABLE storage.tally ADD COLUMN kept bigint NOT NULL DEFAULT 0;

INSERT INTO storage.tally AS t (bucket_id, slot, objects, bytes, kept)
SELECT bucket_id, 0, 0, 0, sum(kept) FROM (
    SELECT r.bucket_id, greatest(0, 512 + length(r.name) + length(r.head) + length(r.tags)
        + coalesce(length(r.parts), 0) + coalesce(length(r.inline), -r.size)) AS kept
    FROM (SELECT * FROM storage.object UNION ALL SELECT * FROM storage.version) r
    UNION ALL
    SELECT u.bucket_id, greatest(0, 512 + length(p.head) - p.size)
    FROM storage.part p JOIN storage.upload u USING (stream)
) rows JOIN storage.bucket b ON b.id = rows.bucket_id
GROUP BY bucket_id
ON CONFLICT (bucket_id, slot) DO UPDATE SET kept = EXCLUDED.kept;
