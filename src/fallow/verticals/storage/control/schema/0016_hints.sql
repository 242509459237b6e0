-- What readers said was altered, one piece of each node: it is read as a whole at `due_ms`, and then is null. Until a day
-- after `said_ms` nobody else is heard about that node.
CREATE TABLE storage.hint (
    alias integer PRIMARY KEY,
    segment bytea NOT NULL CHECK (length(segment) = 16),
    account bytea NOT NULL CHECK (length(account) = 20),
    said_ms bigint NOT NULL,
    due_ms bigint
);
CREATE INDEX hint_account ON storage.hint (account, said_ms);
CREATE INDEX hint_due ON storage.hint (due_ms);
