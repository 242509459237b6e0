-- Who brings pieces, by the keys that sign claims on them. `repairs`: the network's own, which may bring any piece.
CREATE TABLE storage.client (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE CHECK (length(key) = 32),
    repairs boolean NOT NULL DEFAULT false
);

-- 0: not known; such segments are not audited.
ALTER TABLE storage.segment ADD COLUMN client integer NOT NULL DEFAULT 0;

-- '', 'suspended' (gets no new pieces) or 'disqualified' (what it has counts as lost).
ALTER TABLE storage.node ADD COLUMN standing text NOT NULL DEFAULT '';

-- What audits have shown of a node: `state` is a Reputation, `contained` a question that was not answered in time and
-- is asked again (both in msgpack). Who audits it next sets `next_ms` forward first.
CREATE TABLE storage.reputation (
    alias integer PRIMARY KEY,
    state bytea NOT NULL,
    contained bytea,
    audits bigint NOT NULL DEFAULT 0,
    next_ms bigint NOT NULL,
    ended boolean NOT NULL DEFAULT false
);
CREATE INDEX reputation_next ON storage.reputation (next_ms) WHERE NOT ended;

-- What was found of a node, with what was asked and answered: the newest thousand of each. What has a `kind` its node
-- is told; the others are the evidence for it.
CREATE TABLE storage.finding (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alias integer NOT NULL,
    at_ms bigint NOT NULL,
    kind text NOT NULL,
    code text NOT NULL,
    text text NOT NULL,
    evidence bytea NOT NULL,
    told boolean NOT NULL
);
CREATE INDEX finding_alias ON storage.finding (alias, id);
CREATE INDEX finding_untold ON storage.finding (alias) WHERE NOT told;
