-- Limits that a hosted gateway ordered more than: each is recorded once, however often its order is handed in.
CREATE TABLE storage.overstated (
    serial bytea PRIMARY KEY CHECK (length(serial) = 16)
);
