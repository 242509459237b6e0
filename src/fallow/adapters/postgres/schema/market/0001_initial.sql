CREATE SCHEMA market;

-- `doc` holds the whole struct as JSON (as bytes: PostgreSQL's own types refuse some valid texts); the columns beside it are what is searched for.
CREATE TABLE market.job (
    id text PRIMARY KEY,
    account bytea NOT NULL,
    state text NOT NULL,
    created_at bigint NOT NULL,
    doc bytea NOT NULL
);
CREATE INDEX job_by_account ON market.job (account, created_at DESC, id);
CREATE INDEX job_open ON market.job (created_at) WHERE state = 'running';

CREATE TABLE market.item (
    job text NOT NULL REFERENCES market.job,
    index integer NOT NULL,
    doc bytea NOT NULL,
    PRIMARY KEY (job, index)
);

CREATE TABLE market.lease (
    id bytea PRIMARY KEY,
    job text NOT NULL REFERENCES market.job,
    state text NOT NULL,
    proposed_at bigint NOT NULL,
    doc bytea NOT NULL
);
CREATE INDEX lease_by_job ON market.lease (job, proposed_at);
CREATE INDEX lease_open ON market.lease (proposed_at) WHERE state <> 'ended';

CREATE TABLE market.offer (
    node bytea PRIMARY KEY,
    doc bytea NOT NULL
);

-- Sum of price per hour (micro-US-dollars) times milliseconds, over all use so far.
CREATE TABLE market.meter (
    payer bytea NOT NULL,
    payee bytea NOT NULL,
    price_version bigint NOT NULL,
    price_ms numeric(78) NOT NULL,
    PRIMARY KEY (payer, payee, price_version)
);

CREATE TABLE market.refusal (
    node bytea NOT NULL,
    boot bigint NOT NULL,
    seq bigint NOT NULL,
    code text NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (node, boot, seq)
);

-- What each node's results have shown, and the evidence against those that were wrong.
CREATE TABLE market.standing (
    node bytea PRIMARY KEY,
    doc bytea NOT NULL
);

CREATE TABLE market.evidence (
    lease bytea PRIMARY KEY,
    node bytea NOT NULL,
    at bigint NOT NULL,
    code text NOT NULL,
    votes bytea NOT NULL
);
CREATE INDEX evidence_latest ON market.evidence (at DESC);

-- One row: who acts, and how far the log was applied.
CREATE TABLE market.leader (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    term bigint NOT NULL,
    holder text NOT NULL,
    until bigint NOT NULL,
    cursor bigint NOT NULL,
    cursor_records integer NOT NULL
);
INSERT INTO market.leader (term, holder, until, cursor, cursor_records) VALUES (0, '', 0, 0, 0);
