CREATE SCHEMA epochs;

-- What the network has said of each epoch, as it signed it.
CREATE TABLE epochs.closed (
    epoch bigint PRIMARY KEY,
    statement bytea NOT NULL
);

-- Who closes epochs, until when (milliseconds since 1970).
CREATE TABLE epochs.closer (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder text NOT NULL,
    until bigint NOT NULL
);
