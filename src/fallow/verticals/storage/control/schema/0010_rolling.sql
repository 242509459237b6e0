-- What of a node's use is in no record of the network yet. `told_ms` is how much of what counts on it (`storage.lender`, in
-- byte-milliseconds) is; the orders since then are added up, with the tops of the tree over them (32 bytes each), and lie
-- in its records from (begins_boot, begins_seq) on and below (ends_boot, ends_seq). `window_no` is that of its last record.
CREATE TABLE storage.rolling (
    alias integer PRIMARY KEY,
    window_no bigint NOT NULL DEFAULT -1,
    told_ms numeric(78) NOT NULL DEFAULT 0,
    egress bigint NOT NULL DEFAULT 0,
    repaired bigint NOT NULL DEFAULT 0,
    orders bigint NOT NULL DEFAULT 0,
    peaks bytea NOT NULL DEFAULT '',
    begins_boot bigint NOT NULL DEFAULT 0,
    begins_seq bigint NOT NULL DEFAULT 0,
    ends_boot bigint NOT NULL DEFAULT 0,
    ends_seq bigint NOT NULL DEFAULT 0
);

-- From now on: what was used before is in no record.
INSERT INTO storage.rolling (alias, told_ms)
SELECT alias, greatest(bytes * floor(extract(epoch FROM now()) * 1000)::numeric - less, 0) FROM storage.lender;
