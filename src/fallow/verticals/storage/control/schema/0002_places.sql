-- Nodes that lend. `alias` is a short name for lists of nodes; it is never given to another one.
CREATE TABLE storage.node (
    alias integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node bytea NOT NULL UNIQUE CHECK (length(node) = 32),
    account bytea NOT NULL CHECK (length(account) = 20),
    network text NOT NULL,
    country text NOT NULL,
    limit_bytes bigint NOT NULL,
    used_bytes bigint NOT NULL,
    room_bytes bigint NOT NULL,
    seen_ms bigint NOT NULL,
    trouble text NOT NULL
);

-- Where nodes are, by the latest offer of each.
CREATE TABLE storage.country (
    node bytea PRIMARY KEY CHECK (length(node) = 32),
    country text NOT NULL
);

-- How far ingest's log has been read. Whoever reads on holds the row.
CREATE TABLE storage.cursor (
    name text PRIMARY KEY,
    pos bigint NOT NULL
);
INSERT INTO storage.cursor (name, pos) VALUES ('log', 0), ('bills', 0);

-- Segments that are being stored. `nodes` are all to whom a piece may have been brought.
CREATE TABLE storage.begun (
    id bytea PRIMARY KEY CHECK (length(id) = 16),
    bucket bigint NOT NULL,
    account bytea NOT NULL CHECK (length(account) = 20),
    stream bytea NOT NULL CHECK (length(stream) = 16),
    part integer NOT NULL,
    number bigint NOT NULL,
    payload integer NOT NULL,
    key bytea NOT NULL,
    profile text NOT NULL,
    countries text[] NOT NULL,
    client bytea NOT NULL CHECK (length(client) = 32),
    nodes integer[] NOT NULL,
    made_ms bigint NOT NULL
);
CREATE INDEX begun_stream ON storage.begun (bucket, stream, part, number);
CREATE INDEX begun_made ON storage.begun (made_ms);

-- Segments that are stored. `nodes` are those that hold its pieces, by the pieces' numbers (0: nobody); which piece it
-- is there follows from segment and node. `kept`: an upload or a version counts on it, until it is dropped.
CREATE TABLE storage.segment (
    id bytea PRIMARY KEY CHECK (length(id) = 16),
    bucket bigint NOT NULL,
    stream bytea NOT NULL CHECK (length(stream) = 16),
    part integer NOT NULL,
    number bigint NOT NULL,
    payload integer NOT NULL,
    key bytea NOT NULL,
    profile text NOT NULL,
    nodes integer[] NOT NULL,
    made_ms bigint NOT NULL,
    kept boolean NOT NULL
);
CREATE UNIQUE INDEX segment_stream ON storage.segment (bucket, stream, part, number);
CREATE INDEX segment_unkept ON storage.segment (made_ms) WHERE NOT kept;

-- Segments that were dropped (`stored`), or never became whole, until each of their pieces is a row of garbage. Before
-- `due_ms` a piece may still be brought.
CREATE TABLE storage.dropped (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    segment bytea NOT NULL CHECK (length(segment) = 16),
    bucket bigint NOT NULL,
    payload integer NOT NULL,
    profile text NOT NULL,
    nodes integer[] NOT NULL,
    stored boolean NOT NULL,
    purge boolean NOT NULL,
    at_ms bigint NOT NULL,
    due_ms bigint NOT NULL
);

-- Pieces that nobody wants any more, until their nodes have said that they are gone.
CREATE TABLE storage.garbage (
    alias integer NOT NULL,
    segment bytea NOT NULL CHECK (length(segment) = 16),
    purge boolean NOT NULL,
    due_ms bigint NOT NULL,
    PRIMARY KEY (alias, segment)
);
CREATE INDEX garbage_due ON storage.garbage (alias, due_ms);

-- Bytes that came onto nodes and left them, not yet added up: `bytes` a node, negative where they left.
CREATE TABLE storage.change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket bigint NOT NULL,
    nodes integer[] NOT NULL,
    bytes bigint NOT NULL,
    at_ms bigint NOT NULL
);

-- Whose a bucket is or was, and all that it used: up to a time t, bytes x t - less byte-milliseconds.
CREATE TABLE storage.payer (
    bucket bigint PRIMARY KEY,
    account bytea NOT NULL CHECK (length(account) = 20),
    bytes numeric(78) NOT NULL DEFAULT 0,
    less numeric(78) NOT NULL DEFAULT 0,
    counted numeric(78) NOT NULL DEFAULT 0
);
CREATE INDEX payer_account ON storage.payer (account);

-- What of that was used on each day (since 1970).
CREATE TABLE storage.day (
    bucket bigint NOT NULL,
    day integer NOT NULL,
    byte_ms numeric(78) NOT NULL DEFAULT 0,
    egress numeric(78) NOT NULL DEFAULT 0,
    PRIMARY KEY (bucket, day)
);

-- What an account has had of a payee. `billed` is what of it subscriptions were told of, in a meter's units.
CREATE TABLE storage.stored (
    account bytea NOT NULL,
    payee bytea NOT NULL,
    bytes numeric(78) NOT NULL,
    less numeric(78) NOT NULL,
    billed numeric(78) NOT NULL DEFAULT 0,
    PRIMARY KEY (account, payee)
);
CREATE TABLE storage.egress (
    account bytea NOT NULL,
    payee bytea NOT NULL,
    bytes numeric(78) NOT NULL,
    billed numeric(78) NOT NULL DEFAULT 0,
    PRIMARY KEY (account, payee)
);

-- What one subscription was told of one payee, and what of that it is known to have counted.
CREATE TABLE storage.bill (
    account bytea NOT NULL,
    subscription text NOT NULL,
    payee bytea NOT NULL,
    meter text NOT NULL,
    told numeric(78) NOT NULL,
    counted numeric(78) NOT NULL,
    PRIMARY KEY (account, subscription, payee, meter)
);

-- What was ordered under each order limit, until no order under it is counted any more.
CREATE TABLE storage.serial (
    serial bytea PRIMARY KEY CHECK (length(serial) = 16),
    bytes bigint NOT NULL,
    until_ms bigint NOT NULL
);
CREATE INDEX serial_until ON storage.serial (until_ms);
