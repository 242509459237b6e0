CREATE SCHEMA outbox;

-- What the network decided and has not sealed yet. Whoever decides writes here in the same transaction; sealed rows go.
CREATE TABLE outbox.decision (
    pos bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    kind text NOT NULL,
    version integer NOT NULL,
    body bytea NOT NULL
);
