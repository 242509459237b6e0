-- `bucket`: of what was purged there, whose owner asks which nodes have not answered yet. Of one segment: what repair looks
-- for, and who purges it.
ALTER TABLE storage.garbage ADD COLUMN bucket bigint;
CREATE INDEX garbage_bucket ON storage.garbage (bucket) WHERE bucket IS NOT NULL;
CREATE INDEX garbage_segment ON storage.garbage (segment);
