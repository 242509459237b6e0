-- The log holds whatever operators do, not only what they do to a node or an account: then `subject` is empty.
-- What it was about: a key's public part, a token's beginning, a number.
ALTER TABLE registry.action ADD COLUMN about text NOT NULL DEFAULT '';
