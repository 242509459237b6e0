-- Why a node's exit was no success; empty: it was one. None while it goes on.
ALTER TABLE storage.exit ADD COLUMN why text;
