CREATE SCHEMA storage;

CREATE TABLE storage.bucket (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    account bytea NOT NULL CHECK (length(account) = 20),
    made_ms bigint NOT NULL,
    profile text NOT NULL,
    countries text[] NOT NULL,
    versioning text NOT NULL CHECK (versioning IN ('off', 'enabled', 'suspended')),
    lock boolean NOT NULL
);
CREATE UNIQUE INDEX bucket_by_account ON storage.bucket (account, name);

CREATE TABLE storage.setting (
    bucket_id bigint NOT NULL REFERENCES storage.bucket ON DELETE CASCADE,
    name text NOT NULL,
    document bytea NOT NULL,
    PRIMARY KEY (bucket_id, name)
);

-- The latest version of each name, unless that is a delete marker. Names are sealed: their order is that of bytes.
-- The first eight bytes of a version's id are its time (see control/ids.py). `slashes` is where lists may cut the name,
-- `parts` msgpack, `etag` UTF-8. Without a foreign key on the bucket: it would lock the bucket's row at each write.
--
-- With a name of 47 bytes (sealed), a head of 150 and an MD5 an object takes 373 bytes, and 150 in its two indexes (by
-- name 100, by stream 50): 52 GB for a hundred million, and 100 bytes more for 50 more of a name. Inline bytes come on top.
CREATE TABLE storage.object (
    bucket_id bigint NOT NULL,
    size bigint NOT NULL,
    until_ms bigint NOT NULL,
    retention smallint NOT NULL,
    is_null boolean NOT NULL,
    marker boolean NOT NULL,
    hold boolean NOT NULL,
    name bytea NOT NULL,
    version bytea NOT NULL CHECK (length(version) = 16),
    stream bytea,
    etag bytea NOT NULL,
    key bytea NOT NULL,
    slashes smallint[],
    parts bytea,
    head bytea NOT NULL,
    tags bytea NOT NULL,
    inline bytea
);

-- All other versions, delete markers included, those of one name with the latest first.
CREATE TABLE storage.version (LIKE storage.object INCLUDING ALL);

ALTER TABLE storage.object ADD PRIMARY KEY (bucket_id, name);
CREATE UNIQUE INDEX version_in_order ON storage.version (bucket_id, name, version DESC);
CREATE UNIQUE INDEX version_null ON storage.version (bucket_id, name) WHERE is_null;

-- Each stream belongs to one version: by this a request that is sent again is known, and no bytes have two owners.
CREATE UNIQUE INDEX object_by_stream ON storage.object (stream);
CREATE UNIQUE INDEX version_by_stream ON storage.version (stream) WHERE stream IS NOT NULL;

-- What is sealed cannot be compressed.
ALTER TABLE storage.object ALTER head SET STORAGE EXTERNAL, ALTER tags SET STORAGE EXTERNAL, ALTER inline SET STORAGE EXTERNAL;
ALTER TABLE storage.version ALTER head SET STORAGE EXTERNAL, ALTER tags SET STORAGE EXTERNAL, ALTER inline SET STORAGE EXTERNAL;

CREATE TABLE storage.upload (
    stream bytea PRIMARY KEY CHECK (length(stream) = 16),
    bucket_id bigint NOT NULL,
    name bytea NOT NULL,
    made_ms bigint NOT NULL,
    slashes smallint[],
    head bytea NOT NULL,
    tags bytea NOT NULL,
    retention smallint NOT NULL,
    until_ms bigint NOT NULL,
    hold boolean NOT NULL
);
CREATE UNIQUE INDEX upload_in_order ON storage.upload (bucket_id, name, stream);

CREATE TABLE storage.part (
    stream bytea NOT NULL REFERENCES storage.upload ON DELETE CASCADE,
    number smallint NOT NULL,
    bytes_of bytea NOT NULL,
    size bigint NOT NULL,
    made_ms bigint NOT NULL,
    etag bytea NOT NULL,
    head bytea NOT NULL,
    PRIMARY KEY (stream, number)
);

-- What a bucket holds is the sum of its rows: each connection of the database adds to one of its own, as far as they go.
CREATE TABLE storage.tally (
    bucket_id bigint NOT NULL REFERENCES storage.bucket ON DELETE CASCADE,
    slot smallint NOT NULL,
    objects bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (bucket_id, slot)
) WITH (fillfactor = 50);

-- Requests by day (since 1970, UTC). They outlive their bucket: its owner still gets a bill.
CREATE TABLE storage.operation (
    account bytea NOT NULL,
    day integer NOT NULL,
    bucket_id bigint NOT NULL,
    kind text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (account, day, bucket_id, kind)
);
