-- What the last check found of objects against segments: an InspectedObjects in msgpack; empty: nothing yet.
ALTER TABLE storage.inspection ADD COLUMN objects bytea NOT NULL DEFAULT '';
