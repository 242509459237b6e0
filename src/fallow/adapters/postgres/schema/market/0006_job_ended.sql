-- When a job ended: its blobs are kept for a while from then on. In the document, a text never holds this without a backslash.
ALTER TABLE market.job ADD COLUMN ended_at bigint;
UPDATE market.job SET ended_at = substring(convert_from(doc, 'UTF8') FROM '"ended_at":([0-9]+)')::bigint WHERE state <> 'running';
CREATE INDEX job_ended ON market.job (ended_at) WHERE ended_at IS NOT NULL;
