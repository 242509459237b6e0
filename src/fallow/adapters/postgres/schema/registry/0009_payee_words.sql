-- From when on an account may say all of its words of a day again (milliseconds since 1970): each is a record for ever.
ALTER TABLE registry.payee ADD COLUMN spent_ms bigint NOT NULL DEFAULT 0;
